"""Brokers that lack or forbid something, each a real mosquitto unless it cannot play the part."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.publish import pause
from appliance.publish.link import Pace
from appliance.store import bell
from appliance.store.delivery import State
from appliance.store.events import BrokerAway, BrokerConnected
from appliance.store.journal import Journal
from appliance.store.patience import Patience
from rigs.peers import (
    QUICK,
    ROOT,
    Broker,
    Misbehaving,
    Subscriber,
    a_report,
    an_event,
    commit,
    event_of,
    until,
)

HASTE = Pace(patience=Patience(0.01, 0.05, 10), ack_s=5.0, tick_s=0.5)
OPEN = "allow_anonymous true"
LARGE = 40  # findings: their report is larger than the 2,000 bytes that the brokers here allow


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Callable[[str], Broker]]:
    """mosquitto with these lines in its settings."""
    with ExitStack() as stack:

        def start(extra: str) -> Broker:
            broker = Broker(tmp_path, f"{OPEN}\n{extra}").start()
            stack.callback(broker.stop)
            return broker

        yield start


@contextmanager
def consumer(port: int) -> Iterator[Subscriber]:
    made = Subscriber(port)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("extra", "protocol", "losses"),
    [
        ("message_size_limit 2000", "5", 6),  # PUBACK 0x95, which the library takes for nonsense
        ("max_packet_size 2000", "3.1.1", 6),  # it hangs up without a word
        ("max_packet_size 2000", "5", 0),  # CONNACK says so: it is never sent
    ],
)
def test_a_message_too_large_for_the_broker_is_dead_and_the_rest_goes_on(
    extra, protocol, losses, limited, settings_for, serve
) -> None:
    broker = limited(extra)
    with consumer(broker.port) as subscriber:
        stage = serve(settings_for(broker.port, protocol=protocol), HASTE)
        stage.journal.owed.add([an_event(1)])
        large, *findings = commit(stage.journal, a_report(findings=LARGE))
        stage.journal.owed.add([an_event(2)])
        bell.ring(stage.settings.state, "publish")
        until(lambda: stage.journal.owed.counts().waiting == 0)
        (dead,) = stage.journal.owed.listed(State.DEAD)
        assert dead.key == str(large.message.event_id)
        assert ("sent alone" in (dead.last_error or "")) == (losses > 0)
        assert dead.attempts == max(1, losses // 2)  # those with it alone
        # nothing was sent again and again for the large one's sake
        rest = [str(m.message.event_id) for m in findings]
        until(lambda: len({p["event_id"] for p in subscriber.payloads("/routine")}) == LARGE)
        until(lambda: len({p["event_id"] for p in subscriber.payloads("/event")}) == 2)
        heard = [p["event_id"] for p in subscriber.payloads("/routine")]
        assert list(dict.fromkeys(heard)) == rest
        # before it was sent alone; a reset also loses acknowledgements of what came before it
        assert all(heard.count(one) <= 1 + 6 for one in rest)
        assert len(stage.journal.events.of(BrokerConnected)) <= 2 * losses + 1


@pytest.mark.parametrize("way", ["hang_up", "pass_over"])
def test_a_broker_that_hangs_up_on_a_message_or_passes_it_over_gets_all_others(
    way, settings_for, serve
) -> None:
    """What other brokers make of an ACL; mosquitto says 0x87 in v5, and acknowledges in 3.1.1."""
    bad: list[str] = []
    picky = Misbehaving(answers=lambda n: 0, unwanted=lambda body: event_of(body) in bad, way=way)
    stage = serve(settings_for(picky.port), replace(HASTE, ack_s=1.0, farewell_s=0.1))
    with Journal.open(stage.settings.state) as journal:
        pause.set_paused(stage.settings.state, True)
        until(lambda: stage.publisher._paused)
        journal.owed.add([an_event(n) for n in range(10)])
        owed = [row.key for row in journal.owed.waiting("mqtt", 10)]
        bad += owed[1:3]
        pause.set_paused(stage.settings.state, False)
    until(lambda: stage.journal.owed.counts().waiting == 0)
    assert [row.key for row in stage.journal.owed.listed(State.DEAD)] == bad
    assert stage.journal.owed.counts().delivered == 8
    picky.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_without_retained_messages_is_spoken_to_without(
    protocol, limited, settings_for, serve
) -> None:
    broker = limited("retain_available false")
    with consumer(broker.port) as subscriber:
        stage = serve(settings_for(broker.port, protocol=protocol), HASTE)
        commit(stage.journal, a_report())
        bell.ring(stage.settings.state, "publish")
        until(lambda: stage.journal.owed.counts().delivered == 3)
        until(lambda: subscriber.states()[-1:] == ["online"])
        (connected,) = stage.journal.events.of(BrokerConnected)
        assert (connected.event.retain, connected.event.qos) == (False, 1)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_to_a_broker_of_qos_0_only_all_is_delivered_and_marked_as_unconfirmed(
    protocol, limited, settings_for, serve
) -> None:
    broker = limited("max_qos 0")
    with consumer(broker.port) as subscriber:
        stage = serve(settings_for(broker.port, protocol=protocol), HASTE)
        report = a_report()
        commit(stage.journal, report)
        bell.ring(stage.settings.state, "publish")
        until(lambda: stage.journal.owed.counts().delivered == 3)
        assert {row.last_error for row in stage.journal.owed.listed(State.DELIVERED)} == {
            "unconfirmed"
        }
        until(lambda: subscriber.states()[-1:] == ["degraded"])
        assert subscriber.payloads("/status")[-1]["reasons"] == ["broker_unconfirmed"]
        until(lambda: len(subscriber.payloads("/routine")) == 2)
        body = f'{{"report_id": "{report.report_id}"}}'
        subscriber.client.publish(f"{ROOT}/cmd/resend", body, qos=0)
        until(lambda: len(subscriber.payloads("/routine")) == 4)
        until(lambda: stage.journal.owed.counts().delivered == 3)


def test_a_qos_0_broker_that_goes_away_costs_nothing_that_it_had_not_read(
    limited, settings_for, serve
) -> None:
    broker = limited("max_qos 0")
    with consumer(broker.port) as subscriber:
        stage = serve(settings_for(broker.port), HASTE)
        stage.journal.owed.add([an_event(n) for n in range(100)])
        bell.ring(stage.settings.state, "publish")
        until(lambda: stage.journal.owed.counts().delivered >= 20)
        broker.stop()
        broker.start()
        until(lambda: stage.journal.owed.counts().delivered == 100)
        assert stage.journal.owed.counts().dead == 0
        assert len({p["event_id"] for p in subscriber.payloads("/event")}) > 0


class Counting(Patience):
    """Notes which attempt each pause was for."""

    def __init__(self, shortest_s: float, longest_s: float) -> None:
        super().__init__(shortest_s, longest_s, refusals=10)
        object.__setattr__(self, "attempts", [])

    def pause_s(self, attempt: int, draw: Callable[[], float]) -> float:
        self.attempts.append(attempt)  # type: ignore[attr-defined]
        return super().pause_s(attempt, draw)


def test_two_devices_of_one_name_are_told_so_and_try_ever_less_often(
    broker, subscriber, settings_for, serve
) -> None:
    one = settings_for(broker.port)
    other = one.model_copy(update={"state": one.state.with_name("other")})
    other.state.mkdir(exist_ok=True)
    patience = [Counting(0.05, 30.0) for _ in range(2)]
    stages = [
        serve(settings, Pace(patience=own, tick_s=0.2))
        for settings, own in zip((one, other), patience, strict=True)
    ]

    def named() -> list[str]:
        events = [e for stage in stages for e in stage.journal.events.of(BrokerAway)]
        return [e.event.text for e in events if e.event.code == "client_id_taken"]

    text = until(named)[0]
    assert "'scanside-ward-box1'" in text
    assert "[site] device" in text
    until(lambda: any("client_id_taken" in p["reasons"] for p in subscriber.payloads("/status")))
    for own in patience:
        assert own.attempts == list(range(1, len(own.attempts) + 1))


def test_a_connection_that_lasts_ends_the_growth_of_the_pauses(
    broker, subscriber, settings_for, serve
) -> None:
    patience = Counting(0.01, 0.05)  # what lasts longer than 0.1 s has lasted
    stage = serve(settings_for(broker.port), Pace(patience=patience, tick_s=0.2))
    for outage in range(1, 4):
        until(lambda outage=outage: len(stage.journal.events.of(BrokerConnected)) == outage)
        time.sleep(0.2)
        broker.stop()
        until(lambda outage=outage: patience.attempts.count(1) == outage)
        until(lambda: patience.attempts[-1] > 2)  # while it is away they grow
        broker.start()
    assert not [e for e in stage.journal.events.of(BrokerAway) if e.event.code]


def test_a_forged_retained_status_does_not_stay(broker, subscriber, settings_for, serve) -> None:
    serve(settings_for(broker.port), replace(QUICK, status_s=0.5))
    until(lambda: subscriber.states()[-1:] == ["online"])
    forged = f'{{"state": "offline", "event_id": "{uuid.uuid4()}"}}'
    subscriber.client.publish(f"{ROOT}/status", forged, qos=1, retain=True)
    until(lambda: "offline" in subscriber.states())
    until(lambda: subscriber.states()[-1] == "online")
    with consumer(broker.port) as late:
        until(lambda: late.states()[:1] == ["online"])


def test_the_status_is_said_again_every_ten_minutes() -> None:
    assert Pace().status_s == 600
