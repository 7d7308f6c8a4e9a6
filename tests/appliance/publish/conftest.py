"""The peers of the publish stage as fixtures. What they are is in tests/rigs/peers.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.publish import stage as mqtt
from appliance.publish.link import Pace
from appliance.settings import Settings
from appliance.stages import STAGES
from appliance.store import bell
from appliance.store.heartbeat import living
from appliance.store.journal import Journal
from appliance.store.lock import alone
from rigs.peers import QUICK, Broker, Served, Subscriber


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path).start()
    yield made
    made.stop()


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    made = Subscriber(broker.port)
    yield made
    made.close()


@pytest.fixture
def others() -> Iterator[ExitStack]:
    """The locks of the stages other than `publish`: they run, and say nothing of themselves."""
    with ExitStack() as held:
        yield held


@pytest.fixture
def settings_for(tmp_path: Path, others: ExitStack) -> Callable[..., Settings]:
    """Settings of a device whose other stages serve."""
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    for row in STAGES:
        if row.name != mqtt.STAGE:
            others.enter_context(alone(state, row.name))

    def make(port: int, **mqtt_keys: object) -> Settings:
        return Settings.model_validate(
            {
                "state": state,
                "site": {"name": "ward", "device": "box1"},
                "mqtt": {"port": port, "health_s": 60, **mqtt_keys},
                "retain": {"reserve_mb": 0},
            }
        )

    return make


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def start(settings: Settings, pace: Pace = QUICK) -> Served:
        with ExitStack() as stack:
            heart = stack.enter_context(living(settings.state, mqtt.STAGE))
            own = stack.enter_context(Journal.open(settings.state))
            heard = stack.enter_context(bell.hearing(settings.state, mqtt.STAGE))
            opened = stack.pop_all()
        publisher = mqtt.Publisher(settings, own, heard, heart, pace=pace)
        thread = threading.Thread(target=publisher.run, daemon=True)
        stage = Served(settings, Journal.open(settings.state), publisher, thread, opened)
        thread.start()
        running.append(stage)
        return stage

    yield start
    for stage in running:
        if stage.thread.is_alive():
            stage.stop()
