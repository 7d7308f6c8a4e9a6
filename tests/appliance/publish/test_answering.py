"""Commands at the stage, with a real mosquitto: obeyed, answered, audited, never in the way."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import datetime, timezone
from typing import get_args

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from appliance.publish import commands, pause
from appliance.report import Verb
from appliance.store import bell
from appliance.store.events import CommandRefused
from rigs.peers import HANG_S, ROOT, a_report, an_event, ask, commit, until

ALL = get_args(Verb)


def test_commands_are_obeyed_answered_and_audited(broker, subscriber, settings_for, serve) -> None:
    stage = serve(settings_for(broker.port, commands=ALL))
    until(lambda: subscriber.states()[-1:] == ["online"])
    answers = {}
    for verb in ("ping", "update-check", "pause", "pause", "resume", "reboot"):
        ask(subscriber, verb, {"id": verb, "reply_to": f"{ROOT}/reply/{verb}"})
        answers[verb] = until(lambda v=verb: subscriber.payloads(f"/reply/{v}"))[-1]
    assert answers["ping"]["ok"]
    assert answers["ping"]["text"] == "pong"
    assert not answers["update-check"]["ok"]
    assert answers["update-check"]["text"] == "no update source configured"
    assert not answers["reboot"]["ok"]
    assert answers["reboot"]["verb"] == "unknown"
    rows = reversed(stage.journal.audit.rows())  # no ping and no second pause: they change nothing
    assert [(row.action, row.detail["verb"]) for row in rows] == [
        ("command", verb) for verb in ("pause", "resume")
    ]
    refused = [one.event.verb for one in stage.journal.events.of(CommandRefused)]
    assert refused == ["unknown", "update-check"]
    assert stage.journal.audit.verify() is None


def test_pause_holds_the_outbox_over_a_restart_and_resume_sends_it_in_order(
    broker, subscriber, settings_for, serve
) -> None:
    settings = settings_for(broker.port, commands=ALL)
    stage = serve(settings)
    until(lambda: subscriber.states()[-1:] == ["online"])
    ask(subscriber, "pause", {})
    until(lambda: subscriber.states()[-1:] == ["degraded"])
    assert subscriber.payloads("/status")[-1]["reasons"] == ["paused"]
    stage.journal.owed.add([an_event(n) for n in range(5)])
    bell.ring(settings.state, "publish")
    stage.stop()
    stage = serve(settings)
    until(lambda: subscriber.states()[-1:] == ["degraded"])
    time.sleep(0.7)
    assert stage.journal.owed.counts().waiting == 5
    ask(subscriber, "resume", {})
    until(lambda: stage.journal.owed.counts().delivered == 5)
    until(lambda: subscriber.states()[-1:] == ["online"])
    until(lambda: len(subscriber.payloads("/event")) == 5)
    assert [p["slices"] for p in subscriber.payloads("/event")] == [0, 1, 2, 3, 4]


def test_resend_sends_a_report_again_under_the_same_ids(
    broker, subscriber, settings_for, serve
) -> None:
    stage = serve(settings_for(broker.port))
    report = a_report()
    commit(stage.journal, report)
    commit(stage.journal, a_report("2"))
    bell.ring(stage.settings.state, "publish")
    until(lambda: stage.journal.owed.counts().delivered == 6)
    ask(subscriber, "resend", {"report_id": str(report.report_id), "reply_to": f"{ROOT}/reply/r"})
    assert until(lambda: subscriber.payloads("/reply/r"))[0]["text"] == "3 messages are sent again"
    until(lambda: len(subscriber.payloads("/event")) == 3)
    first, _, again = subscriber.payloads("/event")
    assert first == again
    ask(subscriber, "resend", {"report_id": str(uuid.uuid4()), "reply_to": f"{ROOT}/reply/r"})
    assert not until(lambda: subscriber.payloads("/reply/r")[1:])[0]["ok"]


def test_stat_marks_the_series_of_a_study_that_was_spoken_of(
    broker, subscriber, settings_for, serve
) -> None:
    stage = serve(settings_for(broker.port))
    report = a_report()
    commit(stage.journal, report)
    (series,) = stage.journal.series.all()
    until(lambda: subscriber.states()[-1:] == ["online"])
    asking = {"study": report.study.pseudonym, "reply_to": f"{ROOT}/reply/s"}
    ask(subscriber, "stat", asking)
    assert until(lambda: subscriber.payloads("/reply/s"))[0]["text"] == "1 series are taken first"
    assert stage.journal.series.get(series.key).priority == "stat"
    ask(subscriber, "stat", {**asking, "study": "0" * 32})
    assert not until(lambda: subscriber.payloads("/reply/s")[1:])[0]["ok"]


def test_hostile_commands_neither_stop_the_stage_nor_get_an_answer_elsewhere(
    broker, subscriber, settings_for, serve
) -> None:
    stage = serve(settings_for(broker.port))
    until(lambda: subscriber.states()[-1:] == ["online"])
    hostile: list[bytes] = [
        b"\xff\xfe",
        b"[" * 4000,
        b"{" * 5000,
        b'{"reply_to": "scanside/v1/ward/box1/status"}',
        b'{"reply_to": "scanside/v1/ward/box1/reply/../status"}',
        b'{"reply_to": "scanside/v1/ward/box2/reply/x"}',
        b'{"reply_to": "$SYS/x"}',
        b'{"reply_to": 7}',
        b'{"id": "\\ud800"}',
        b"1e999",
        b"null",
    ]
    for payload in hostile:
        subscriber.client.publish(f"{ROOT}/cmd/ping", payload, qos=1)
    ask(subscriber, "ping", {"reply_to": f"{ROOT}/reply/last"})
    until(lambda: subscriber.payloads("/reply/last"))
    topics = {m.topic for m in subscriber.got} - {f"{ROOT}/cmd/ping"}
    assert topics == {f"{ROOT}/{t}" for t in ("status", "info", "health", "reply/last")}
    assert len(stage.journal.events.of(CommandRefused)) == len(hostile)
    assert not stage.journal.audit.rows()  # they are kept for ever
    assert subscriber.states() == ["init", "online"]


def test_a_retained_command_is_not_obeyed(broker, subscriber, settings_for, serve) -> None:
    subscriber.client.publish(f"{ROOT}/cmd/pause", b"{}", qos=1, retain=True).wait_for_publish(
        HANG_S
    )
    for protocol in ("5", "3.1.1"):
        stage = serve(settings_for(broker.port, protocol=protocol, commands=ALL))
        until(lambda: subscriber.states()[-1:] == ["online"])
        time.sleep(0.2)
        assert not pause.paused(stage.settings.state)
        stage.stop()


def test_a_verb_that_is_not_listed_is_refused_with_the_line_to_add(
    broker, subscriber, settings_for, serve
) -> None:
    stage = serve(settings_for(broker.port))
    until(lambda: subscriber.states()[-1:] == ["online"])
    ask(subscriber, "pause", {"reply_to": f"{ROOT}/reply/x"})
    answer = until(lambda: subscriber.payloads("/reply/x"))[0]
    assert not answer["ok"]
    assert answer["verb"] == "pause"
    listed = '["ping", "resend", "stat", "resume", "pause"]'
    assert answer["text"].endswith(f"[mqtt] commands = {listed}")
    assert not pause.paused(stage.settings.state)


def test_every_verb_has_its_ration_and_resume_has_none(
    broker, subscriber, settings_for, serve, monkeypatch
) -> None:
    monkeypatch.setattr(commands, "RATIONS", dict.fromkeys(commands.RATIONS, (2, 3600.0)))
    monkeypatch.setattr(commands, "REFUSALS", (100, 3600.0))
    stage = serve(settings_for(broker.port, commands=ALL))
    until(lambda: subscriber.states()[-1:] == ["online"])
    answers: dict[str, list[bool]] = {}
    for n in range(4):  # one at a time: more at once than REPLIES_KEPT would not all be answered
        for verb in ("ping", "stat", "pause", "resume", "update-check"):
            body = {"id": f"{verb}{n}", "study": "0" * 32, "reply_to": f"{ROOT}/reply/{verb}"}
            ask(subscriber, verb, body)
            got = until(lambda v=verb, n=n: subscriber.payloads(f"/reply/{v}")[n:])
            answers.setdefault(verb, []).append(got[0]["ok"])
    assert answers["ping"] == answers["pause"] == [True, True, False, False]
    assert answers["resume"] == [True] * 4
    assert not pause.paused(stage.settings.state)
    assert len(stage.journal.audit.rows()) == 4  # two pauses, and the two that ended them
    ends = [p["text"] for v in ("stat", "update-check") for p in subscriber.payloads(f"/reply/{v}")]
    assert ["too many" in text for text in ends] == [False, False, True, True] * 2


def test_after_a_thousand_commands_resume_still_lets_findings_go(
    broker, subscriber, settings_for, serve
) -> None:
    stage = serve(settings_for(broker.port, commands=ALL))
    until(lambda: subscriber.states()[-1:] == ["online"])
    ask(subscriber, "pause", {})
    until(lambda: subscriber.states()[-1:] == ["degraded"])
    stage.journal.owed.add([an_event(1)])
    for _ in range(1100):
        ask(subscriber, "stat", {"study": "0" * 32})
    ask(subscriber, "resume", {})
    until(lambda: stage.journal.owed.counts().delivered == 1)


def test_refusals_beyond_their_ration_are_neither_written_down_nor_answered(
    broker, subscriber, settings_for, serve, monkeypatch
) -> None:
    monkeypatch.setattr(commands, "REFUSALS", (3, 3600.0))
    stage = serve(settings_for(broker.port))
    until(lambda: subscriber.states()[-1:] == ["online"])
    for _ in range(20):
        ask(subscriber, "reboot", {"reply_to": f"{ROOT}/reply/x"})
    ask(subscriber, "ping", {"reply_to": f"{ROOT}/reply/ping"})
    until(lambda: subscriber.payloads("/reply/ping"))
    assert len(stage.journal.events.of(CommandRefused)) == 3
    assert len(subscriber.payloads("/reply/x")) == 3


@pytest.mark.parametrize("qos", [0, 1])
def test_a_finding_does_not_wait_for_the_end_of_a_flood_of_pings(
    qos, broker, subscriber, settings_for, serve, monkeypatch
) -> None:
    """By order and counts: the flood goes on until the findings are there."""
    monkeypatch.setitem(commands.RATIONS, "ping", (100, 3600.0))
    monkeypatch.setattr(commands, "REFUSALS", (10, 3600.0))
    stage = serve(settings_for(broker.port))
    until(lambda: subscriber.states()[-1:] == ["online"])
    over = threading.Event()
    asked = [0]

    def flood() -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="flood")
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        while not over.is_set():
            for _ in range(50):
                client.publish(f"{ROOT}/cmd/ping", f'{{"reply_to": "{ROOT}/reply/x"}}', qos=qos)
            asked[0] += 50
            time.sleep(0.02)  # 2,500 a second
        client.disconnect()
        client.loop_stop()

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        until(lambda: asked[0] > 1000)
        for n in range(5):
            stage.journal.owed.add([an_event(n)])
            bell.ring(stage.settings.state, "publish")
            until(lambda n=n: len(subscriber.payloads("/event")) == n + 1)
        until(lambda: stage.journal.owed.counts().delivered == 5)
        assert thread.is_alive(), "the flood ended first"
    finally:
        over.set()
        thread.join(HANG_S)
    assert 0 < len(subscriber.payloads("/reply/x")) <= 100 + 10


def test_a_pause_ends_by_itself_and_that_is_audited(
    broker, subscriber, settings_for, serve
) -> None:
    settings = settings_for(broker.port, pause_s=600)
    pause.set_paused(settings.state, True)
    text = (settings.state / pause.PAUSED).read_text()
    stage = serve(settings)
    stage.journal.owed.add([an_event(1)])
    until(lambda: subscriber.states()[-1:] == ["degraded"])
    assert stage.journal.owed.counts().waiting == 1
    now = datetime.now(timezone.utc)
    year = str(now.year)
    assert year in text
    (settings.state / pause.PAUSED).write_text(text.replace(year, str(now.year - 1)))
    until(lambda: stage.journal.owed.counts().delivered == 1)
    assert not pause.paused(settings.state)
    assert [row.action for row in stage.journal.audit.rows()] == ["pause_expired"]
