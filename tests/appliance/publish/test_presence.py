"""What the device says of itself: its state with every reason, and its health."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from appliance.publish.presence import Presence
from appliance.results.device import ROWS_MOST
from appliance.results.message import HealthMessage
from appliance.settings import Retain, Settings
from appliance.stages import of
from appliance.store import conditions, updating
from appliance.store.events import BrokerConnected, Loaded
from appliance.store.files import Disk
from appliance.store.heartbeat import Heart, TroubleCode, living
from appliance.store.journal import Journal
from appliance.store.library import WATCH, Library
from appliance.store.updating import Updating
from appliance.watching.alarm import Cause, Statistic
from appliance.watching.told import Told, ToldAlarm, ToldRow

DAY_S = 86400.0
State = tuple[str, tuple[str, ...]]


@dataclass
class Stages:
    """The stages of one device, which the test starts and ends."""

    settings: Settings
    journal: Journal
    hearts: dict[str, Heart] = field(default_factory=dict)
    _running: dict[str, ExitStack] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        for name in names:
            self._running[name] = ExitStack()
            held = self._running[name].enter_context(living(self.settings.state, name))
            self.hearts[name] = held

    def serve(self, *names: str) -> None:
        for name in names:
            self.hearts[name].beat()

    def end(self, name: str) -> None:
        self._running.pop(name).close()

    def close(self) -> None:
        for name in list(self._running):
            self.end(name)

    def presence(self) -> Presence:
        return Presence(self.settings, self.journal, self.hearts["publish"])

    def state(self, presence: Presence | None = None) -> State:
        found = presence or self.presence()
        return found.state(False, commands_refused=False)

    def words(self, *, paused: bool = False) -> dict[str, str]:
        """What `health` says of each stage."""
        outgoing, _ = self.presence().health(paused=paused)
        assert isinstance(outgoing.message, HealthMessage)
        return outgoing.message.stages


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Stages]:
    settings = Settings(state=tmp_path, retain=Retain(reserve_mb=0))
    with Journal.open(tmp_path) as journal:
        made = Stages(settings, journal)
        made.start("publish")
        made.serve("publish")
        yield made
        made.close()


@contextmanager
def long_ago(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the appliance had started long ago."""
    with monkeypatch.context() as changed:
        changed.setattr(conditions, "STARTING_S", 0.0)
        yield


OTHERS = tuple(row.name for row in of(Settings()) if row.name != "publish")


def test_it_is_not_online_before_every_stage_serves(device: Stages) -> None:
    starting = tuple(f"{name}_starting" for name in OTHERS)
    assert device.state() == ("init", starting)
    device.start(*OTHERS)
    assert device.state() == ("init", starting)
    device.serve("receive", "retain")
    assert device.state() == ("init", ("work_starting",))
    device.serve("work")
    assert device.state() == ("online", ())


@pytest.mark.parametrize("name", OTHERS)
def test_a_stage_that_ended_is_named(
    device: Stages, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    device.start(*OTHERS)
    device.serve(*OTHERS)
    device.end(name)
    with long_ago(monkeypatch):
        assert device.state() == ("degraded", (f"{name}_down",))
        assert device.words()[name] == "down"


def test_what_starts_beside_what_is_ill_is_degraded(
    device: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.start("work", "receive")
    device.serve("receive")
    with long_ago(monkeypatch):
        assert device.state() == ("degraded", ("work_starting", "retain_down"))


def test_a_work_without_a_bundle_is_degraded(device: Stages) -> None:
    device.start(*OTHERS)
    device.serve(*OTHERS)
    device.journal.events.add(Loaded(bundles=(), backend="openvino fp32"))
    assert device.state() == ("degraded", ("no_bundle",))


def test_what_a_stage_suffers_from_is_a_reason_while_it_lasts(device: Stages) -> None:
    device.start(*OTHERS)
    device.serve(*OTHERS)
    device.hearts["receive"].suffer(TroubleCode.ASSOCIATIONS_FULL, "all 32 are open")
    device.serve("receive")
    assert device.state() == ("degraded", ("associations_full",))
    device.hearts["receive"].recover(TroubleCode.ASSOCIATIONS_FULL)
    device.serve("receive")
    assert device.state() == ("online", ())


def test_an_appliance_that_was_recalled_is_degraded_by_that_and_not_for_want_of_a_bundle(
    device: Stages,
) -> None:
    device.start(*OTHERS)
    device.serve(*OTHERS)
    device.journal.events.add(Loaded(bundles=(), backend=None))
    device.hearts["work"].suffer(TroubleCode.RECALLED, "this release was recalled")
    device.serve("work")
    assert device.state() == ("degraded", ("recalled",))


def test_health_names_every_stage(device: Stages) -> None:
    device.start(*OTHERS)
    device.serve("receive", "retain")
    words = {"publish": "running", "work": "starting", "receive": "running", "retain": "running"}
    assert device.words() == words
    assert device.words(paused=True) == words | {"publish": "paused"}


def test_a_clock_that_contradicts_the_journal_is_a_reason(device: Stages) -> None:
    device.start(*OTHERS)
    device.serve(*OTHERS)
    assert device.state() == ("online", ())
    with Journal.open(device.settings.state, lambda: time.time() + DAY_S) as tomorrow:
        tomorrow.events.add(BrokerConnected(protocol="5"))
    assert device.state() == ("degraded", ("clock_wrong",))


def test_a_clock_that_jumps_back_is_a_reason_until_it_has_caught_up(
    device: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.start(*OTHERS)
    device.serve(*OTHERS)
    presence = device.presence()
    assert device.state(presence) == ("online", ())
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    with monkeypatch.context() as jumped:
        jumped.setattr("appliance.publish.presence.utc_now", lambda: yesterday)
        assert device.state(presence) == ("degraded", ("clock_wrong",))
    assert device.state(presence) == ("online", ())


def test_health_carries_the_head_of_the_audit(device: Stages) -> None:
    presence, journal = device.presence(), device.journal
    for action in (None, "a decision", "another one"):
        if action is not None:
            journal.audit.add("tests", action)
        health = presence.health(paused=False)[0].message
        assert isinstance(health, HealthMessage)
        assert health.audit_head is not None
        assert (health.audit_head.row, health.audit_head.hash) == journal.audit.head()
    assert journal.audit.head()[0] == 2


@pytest.mark.parametrize(
    ("state", "ill", "said"),
    [
        ("switching", True, "updating"),
        ("returning", True, "updating"),
        ("trial", False, "updating"),
        ("trial", True, "degraded"),
        ("confirmed", False, "online"),
    ],
)
def test_while_an_update_switches_or_is_on_trial_the_status_says_so(
    device: Stages, tmp_path: Path, state: str, ill: bool, said: str
) -> None:
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    ours = {"root": tmp_path / "root", "trusted": trusted}
    device.settings = Settings.model_validate(
        {"state": tmp_path, "retain": {"reserve_mb": 0}, "update": ours}
    )
    updating.write(Disk(), trusted, Updating(version="0.2.0", slot=2, state=state))
    device.start(*OTHERS)
    device.serve(*OTHERS)
    if ill:
        device.journal.events.add(Loaded(bundles=(), backend=None))
    assert device.state()[0] == said


def test_an_alarm_of_a_scanner_stands_in_health_and_changes_no_status(device: Stages) -> None:
    device.start(*OTHERS)
    device.serve(*OTHERS)
    first, _ = device.presence().health(paused=False)
    assert "watch" not in json.loads(first.message.to_json(1)), "there is nothing to say"
    alarm = ToldAlarm(statistic=Statistic.NOISE, cause=Cause.DOSE)
    rows = tuple(
        ToldRow(row=f"{number:016x}", n=40, alarms=(alarm,)) for number in range(ROWS_MOST + 5)
    )
    Library(device.settings.state).tell(Told(rows=rows))
    said, _ = device.presence().health(paused=False)
    assert isinstance(said.message, HealthMessage)
    assert said.message.watch == rows[:ROWS_MOST]
    assert device.state() == ("online", ())


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b'{"rows": [{"row": "Smith"}]}'])
def test_what_cannot_be_read_of_the_scanners_is_not_said(device: Stages, data: bytes) -> None:
    (device.settings.state / WATCH).write_bytes(data)
    said, _ = device.presence().health(paused=False)
    assert isinstance(said.message, HealthMessage)
    assert said.message.watch is None
