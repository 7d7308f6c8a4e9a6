"""The publish stage against a real mosquitto, and against brokers that do wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from appliance.errors import SettingsInvalid, StateUnusable
from appliance.publish.link import Pace, password
from appliance.settings import Mqtt, Settings
from appliance.store import bell
from appliance.store.delivery import State
from appliance.store.events import BrokerAway, BrokerConnected
from appliance.store.journal import Journal
from appliance.store.lock import alone
from appliance.store.patience import Patience
from rigs.peers import (
    HANG_S,
    ROOT,
    Broker,
    Misbehaving,
    Subscriber,
    a_report,
    an_event,
    ask,
    commit,
    event_of,
    until,
)
from rigs.programs import program

HASTE = Patience(0.01, 0.05, 10)


def child(settings: Settings) -> subprocess.Popen[bytes]:
    """The stage as a process of its own."""
    code = (
        "import sys; from appliance.publish.stage import main; from appliance.settings import "
        "Settings; sys.exit(main(Settings.model_validate_json(sys.argv[1]), "
        "lambda: print('ready', flush=True)))"
    )
    made = subprocess.Popen(
        [sys.executable, "-c", code, settings.model_dump_json()], stdout=subprocess.PIPE
    )
    assert made.stdout is not None
    with made.stdout as out:
        assert out.readline() == b"ready\n"
    return made


def sent_on(broker: Misbehaving) -> Counter[int]:
    """How many messages came on each connection, by its ordinal."""
    return Counter(number for number, _ in broker.published)


def test_birth_then_the_will_says_offline_when_the_stage_is_killed(
    broker, subscriber, settings_for
) -> None:
    stage = child(settings_for(broker.port))
    try:
        until(lambda: subscriber.states()[-1:] == ["online"])
        stage.kill()
        until(lambda: subscriber.states()[-1:] == ["offline"])
    finally:
        stage.kill()
        stage.wait()
    assert subscriber.states() == ["init", "online", "offline"]
    late = Subscriber(broker.port)
    until(lambda: late.states() == ["offline"])
    assert all(m.retain for m in late.got if m.topic.endswith("/status"))
    late.close()


def test_sigterm_says_stopped_and_the_will_stays_silent(broker, subscriber, settings_for) -> None:
    stage = child(settings_for(broker.port))
    until(lambda: subscriber.states()[-1:] == ["online"])
    stage.send_signal(signal.SIGTERM)
    assert stage.wait(HANG_S) == 0
    time.sleep(0.3)
    assert subscriber.states() == ["init", "online", "stopped"]


def test_info_is_retained_and_health_is_not(broker, subscriber, settings_for, serve) -> None:
    serve(settings_for(broker.port, health_s=0.2))
    until(lambda: len(subscriber.payloads("/health")) >= 2)
    late = Subscriber(broker.port)
    until(lambda: late.payloads("/info"))
    assert not [m for m in late.got if m.topic.endswith("/health") and m.retain]
    health = [m for m in subscriber.got if m.topic.endswith("/health")]
    assert health[0].qos == 0
    assert 0 < health[0].properties.MessageExpiryInterval <= 1
    late.close()


def test_what_is_owed_arrives_in_order_and_is_delivered_only_with_its_puback(
    broker, subscriber, settings_for, serve
) -> None:
    stage = serve(settings_for(broker.port))
    sent = commit(stage.journal, a_report(findings=3))
    bell.ring(stage.settings.state, "publish")
    until(lambda: stage.journal.owed.counts().delivered == len(sent) == 4)
    until(lambda: len(subscriber.payloads("/routine")) == 3)
    events = [m for m in subscriber.got if "/study/" in m.topic or "/finding/" in m.topic]
    assert [json.loads(m.payload)["event_id"] for m in events] == [
        str(o.message.event_id) for o in sent
    ]
    assert [m.topic.rsplit("box1/")[1] for m in events] == [o.topic for o in sent]
    assert json.loads(events[0].payload)["report"]["findings"][0]["kind"] == "nodule"


def test_a_datagram_wakes_the_stage_at_once(broker, settings_for, serve) -> None:
    stage = serve(settings_for(broker.port), Pace(tick_s=10 * HANG_S))
    for n in range(20):
        stage.journal.owed.add([an_event(n)])
        bell.ring(stage.settings.state, "publish")
        until(lambda n=n: stage.journal.owed.counts().delivered == n + 1)  # before any tick


def test_a_datagram_that_was_lost_costs_a_tick(broker, settings_for, serve) -> None:
    stage = serve(settings_for(broker.port), Pace(tick_s=0.5))
    for n in range(2):
        stage.journal.owed.add([an_event(n)])
        until(lambda n=n: stage.journal.owed.counts().delivered == n + 1)


def test_order_is_kept_over_a_restart_of_the_broker(
    broker, subscriber, settings_for, serve
) -> None:
    settings = settings_for(broker.port)
    with Journal.open(settings.state) as journal:
        journal.owed.add([an_event(n) for n in range(200)])
        owed = [row.key for row in journal.owed.waiting("mqtt", 1000)]
    stage = serve(settings)
    until(lambda: len(subscriber.payloads("/event")) >= 40)
    broker.stop()
    assert stage.journal.owed.counts().waiting > 0
    broker.start()
    until(lambda: stage.journal.owed.counts().delivered == 200)
    until(lambda: len({p["event_id"] for p in subscriber.payloads("/event")}) == 200)
    assert list(dict.fromkeys(p["event_id"] for p in subscriber.payloads("/event"))) == owed
    seqs = [p["seq"] for p in subscriber.payloads("/event")]
    assert len(seqs) < 200 + 2 * 20  # at most a window is sent twice


def test_a_broker_that_is_away_at_first_costs_nothing(tmp_path, settings_for, serve) -> None:
    broker = Broker(tmp_path)
    stage = serve(settings_for(broker.port))
    stage.journal.owed.add([an_event(n) for n in range(3)])
    until(lambda: stage.journal.events.of(BrokerAway))
    assert stage.journal.owed.counts().waiting == 3
    broker.start()
    try:
        until(lambda: stage.journal.owed.counts().delivered == 3)
        stage.stop()
    finally:
        broker.stop()


def test_mqtt_3_1_1_does_the_same_on_a_real_broker(broker, subscriber, settings_for, serve) -> None:
    stage = serve(settings_for(broker.port, protocol="3.1.1"))
    commit(stage.journal, a_report())
    bell.ring(stage.settings.state, "publish")
    until(lambda: stage.journal.owed.counts().delivered == 3)
    until(lambda: len(subscriber.payloads("/routine")) == 2)
    ask(subscriber, "ping", {"id": "x", "reply_to": f"{ROOT}/reply/me"})
    assert until(lambda: subscriber.payloads("/reply/me"))[0]["ok"]
    stage.stop()
    until(lambda: subscriber.states()[-1:] == ["stopped"])


@pytest.mark.parametrize("way", ["refuse", "hang_up"])
def test_a_broker_that_knows_no_v5_is_spoken_to_in_3_1_1(way, settings_for, serve) -> None:
    old = Misbehaving(answers=lambda _n: 0, v5=way)
    stage = serve(settings_for(old.port))
    stage.journal.owed.add([an_event(1)])
    until(lambda: stage.journal.owed.counts().delivered == 1)
    assert old.levels == [5, 4]
    old.close()


def test_a_broker_that_never_acknowledges_is_hung_up_on_and_nothing_counts_as_delivered(
    settings_for, serve
) -> None:
    mute = Misbehaving()
    stage = serve(
        settings_for(mute.port),
        Pace(ack_s=0.3, patience=HASTE, tick_s=0.5, farewell_s=0.1),
    )
    stage.journal.owed.add([an_event(n) for n in range(30)])
    bell.ring(stage.settings.state, "publish")
    # a window cut short by a slow machine is no fault: the next connection sends it again
    until(lambda: len(mute.levels) >= 3 and 20 in sent_on(mute).values())
    assert stage.journal.owed.counts().delivered == 0
    owed = [row.key for row in stage.journal.owed.waiting("mqtt", 30)]
    assert len(owed) == 30
    assert max(sent_on(mute).values()) == 20  # the window
    for number in sent_on(mute):
        sent = [event_of(b) for n, b in mute.published if n == number]
        assert sent == owed[: len(sent)]
    mute.close()


def test_what_the_broker_acknowledged_before_it_fell_silent_is_not_sent_again(
    settings_for, serve
) -> None:
    half = Misbehaving(answers=lambda n: 0 if n < 5 else None)
    stage = serve(
        settings_for(half.port),
        Pace(ack_s=1.5, patience=HASTE, tick_s=0.5, farewell_s=0.1),
    )
    stage.journal.owed.add([an_event(n) for n in range(10)])
    bell.ring(stage.settings.state, "publish")
    until(lambda: [n for n, _ in half.published if n == 1])
    assert stage.journal.owed.counts().delivered == 5
    owed = [row.key for row in stage.journal.owed.waiting("mqtt", 10)]
    until(lambda: 5 in [count for n, count in sent_on(half).items() if n > 0])
    for number in set(sent_on(half)) - {0}:
        sent = [event_of(b) for n, b in half.published if n == number]
        assert sent == owed[: len(sent)]
    half.close()


def test_a_message_that_is_itself_at_fault_is_dead_and_the_rest_goes_on(
    settings_for, serve
) -> None:
    strict = Misbehaving(answers=lambda n: 0x90 if n == 1 else 0)
    stage = serve(settings_for(strict.port))
    stage.journal.owed.add([an_event(n) for n in range(4)])
    bell.ring(stage.settings.state, "publish")
    until(
        lambda: stage.journal.owed.counts().delivered == 3 and stage.journal.owed.listed(State.DEAD)
    )
    (dead,) = stage.journal.owed.listed(State.DEAD)
    assert dead.last_error == "PUBACK 0x90"
    strict.close()


def test_a_refusal_for_now_is_asked_again_and_never_buried(settings_for, serve) -> None:
    full = Misbehaving(answers=lambda n: 0x97 if n < 12 else 0)
    stage = serve(settings_for(full.port), Pace(window=1, patience=HASTE, tick_s=0.5))
    stage.journal.owed.add([an_event(n) for n in range(2)])
    bell.ring(stage.settings.state, "publish")
    until(lambda: stage.journal.owed.counts().delivered == 2)
    assert stage.journal.owed.counts().dead == 0
    assert {e.event.code for e in stage.journal.events.of(BrokerAway)} == {""}
    full.close()


def test_a_topic_that_is_not_authorized_is_dead_after_ten_refusals(settings_for, serve) -> None:
    closed = Misbehaving(answers=lambda _n: 0x87)
    stage = serve(settings_for(closed.port), Pace(window=1, patience=HASTE, tick_s=0.5))
    stage.journal.owed.add([an_event(1)])
    bell.ring(stage.settings.state, "publish")
    until(lambda: stage.journal.owed.counts().dead == 1)
    assert len(closed.published) == 10
    closed.close()


def test_the_broker_s_receive_maximum_and_packet_size_are_kept(settings_for, serve) -> None:
    small = Misbehaving(connack_properties=bytes((0x21, 0, 3, 0x27, 0, 0, 8, 0)))  # 3; 2048 bytes
    stage = serve(settings_for(small.port), Pace(ack_s=5, tick_s=0.3, farewell_s=0.1))
    commit(stage.journal, a_report(findings=20))  # its event is larger than 2048 bytes
    bell.ring(stage.settings.state, "publish")
    until(lambda: len(small.published) == 3)
    time.sleep(0.3)
    assert len(small.published) == 3
    (dead,) = stage.journal.owed.listed(State.DEAD)
    assert "2048" in (dead.last_error or "")
    small.close()


def test_username_and_password_file(tmp_path: Path, settings_for, serve) -> None:
    table = tmp_path / "passwords"
    table.touch()
    subprocess.run([program("mosquitto_passwd"), "-b", str(table), "box", "s3cret"], check=True)
    broker = Broker(tmp_path, f"allow_anonymous false\npassword_file {table}").start()
    try:
        wrong = tmp_path / "wrong"
        wrong.write_text("guess\n")
        right = tmp_path / "right"
        right.write_text("s3cret\n")
        stage = serve(settings_for(broker.port, username="box", password_file=wrong))
        stage.journal.owed.add([an_event(1)])
        until(lambda: stage.journal.events.of(BrokerAway))
        assert "authori" in stage.journal.events.of(BrokerAway)[0].event.text.lower()
        assert stage.journal.owed.counts().waiting == 1
        stage.stop()
        stage = serve(settings_for(broker.port, username="box", password_file=right))
        until(lambda: stage.journal.owed.counts().delivered == 1)
        stage.stop()
    finally:
        broker.stop()


def test_only_one_publish_stage_serves_a_state_folder(broker, settings_for, serve) -> None:
    stage = serve(settings_for(broker.port))
    with (
        pytest.raises(StateUnusable, match="another `scanside publish`"),
        alone(stage.settings.state, "publish"),
    ):
        pass


def test_a_password_file_that_cannot_be_read_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="password_file"):
        password(Mqtt(username="box", password_file=tmp_path / "none"))


def test_it_may_be_the_first_stage_that_starts_on_a_machine(broker, tmp_path: Path) -> None:
    fresh = Settings(state=tmp_path / "not" / "there", mqtt=Mqtt(port=broker.port))
    stage = child(fresh)
    stage.terminate()
    assert stage.wait(HANG_S) == 0


def test_devices_of_one_name_at_two_sites_do_not_push_each_other_off_the_broker(
    broker, settings_for, serve
) -> None:
    one = settings_for(broker.port)
    other = one.model_copy(
        update={
            "state": one.state.with_name("other"),
            "site": one.site.model_copy(update={"name": "elsewhere"}),
        }
    )
    other.state.mkdir(exist_ok=True)
    stages = [serve(settings) for settings in (one, other)]
    for stage in stages:
        until(lambda stage=stage: stage.journal.events.of(BrokerConnected))
    time.sleep(0.5)
    assert [stage.journal.events.of(BrokerAway) for stage in stages] == [[], []]
