"""The destination MQTT: envelopes, and keys that do not change."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from appliance.report import Report, SeriesKey, Stage
from appliance.results import message
from appliance.results.mqtt import MQTT, Envelope, Mqtt, Said, enveloped, is_about, said
from appliance.results.owed import Body
from rigs.reports import NAMING

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
KEY = SeriesKey("1.2", "1.2.3")


def opened(body: Body, number: int) -> Envelope:
    assert callable(body)
    return Envelope.model_validate_json(body(number))


def test_an_envelope_holds_the_message_with_the_number_that_was_drawn() -> None:
    sent = message.of_series("received", KEY, naming=NAMING, slices=3, at=NOON)
    owed = enveloped(sent, KEY)
    assert (owed.destination, owed.key, owed.series) == (MQTT, str(sent.message.event_id), KEY)
    envelope = opened(owed.body, 41)
    assert (envelope.topic, envelope.qos, envelope.retain) == (
        f"study/{NAMING.study(KEY.study)}/event",
        1,
        False,
    )
    assert envelope.payload == sent.message.to_json(41)
    assert json.loads(envelope.payload)["seq"] == 41


def test_a_withdrawal_is_keyed_by_the_report_alone() -> None:
    withdrawn = uuid.UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    (owed,) = Mqtt().of_withdrawal(withdrawn, KEY, naming=NAMING, at=NOON)
    assert owed.key == str(NAMING.event(withdrawn, "superseded"))


def test_the_messages_of_a_report_are_found_by_what_they_say(
    make_report: Callable[..., Report],
) -> None:
    """Whatever their keys are: those of the release before were made in another way."""
    gone = make_report(images="d" * 64)
    early = make_report(stage=Stage.PRELIMINARY, supersedes=gone.report_id)
    final = make_report(supersedes=gone.report_id)
    other = make_report(images="e" * 64)

    def bodies(report: Report) -> list[bytes]:
        owed = Mqtt().of_report(report, KEY, naming=NAMING, at=NOON)
        return [one.body(1) for one in owed if callable(one.body)]

    (withdrawal,) = Mqtt().of_withdrawal(final.report_id, KEY, naming=NAMING, at=NOON)
    assert callable(withdrawal.body)
    assert len(bodies(final)) == 3, "the withdrawal of the one before, the event, the finding"
    mine = [*bodies(final), withdrawal.body(1)]
    assert all(is_about(body, final) for body in mine)
    assert not any(is_about(body, other) for body in mine)
    assert [is_about(body, final) for body in bodies(early)] == [True, False, True]
    assert [is_about(body, gone) for body in mine] == [True, False, False, False]


@pytest.mark.parametrize("payload", ["", "[]", "null", "{", '{"report": 1}'])
def test_what_says_nothing_of_a_report_is_about_none(
    payload: str, make_report: Callable[..., Report]
) -> None:
    envelope = Envelope(topic="study/x/event", qos=1, retain=False, payload=payload)
    for body in (envelope.model_dump_json().encode(), b"\xff", None):
        assert not is_about(body, make_report())


def test_what_a_preliminary_report_said_of_its_findings_is_not_said_again(
    make_report: Callable[..., Report],
) -> None:
    early, final = make_report(stage=Stage.PRELIMINARY), make_report()
    owed = Mqtt().of_report(final, KEY, naming=NAMING, at=NOON, completes=early)
    bodies = [one.body(1) for one in owed if callable(one.body)]
    assert [json.loads(Envelope.model_validate_json(b).payload)["type"] for b in bodies] == [
        "study"
    ]


def test_a_person_reads_the_topic_or_where_the_body_is_none_of_ours_the_key() -> None:
    (owed,) = Mqtt().of_event("complete", KEY, naming=NAMING, slices=3, at=NOON)
    body = owed.body(1) if callable(owed.body) else b""
    assert Mqtt().described(owed.key, body) == f"study/{NAMING.study(KEY.study)}/event"
    assert Mqtt().described(owed.key, b"\xff") == Mqtt().described(owed.key, None) == owed.key


def test_what_a_message_says_is_read_again_from_what_the_journal_keeps(
    make_report: Callable[..., Report],
) -> None:
    report = make_report()
    sent = [
        message.of_series("complete", KEY, naming=NAMING, slices=9, at=NOON),
        *message.of_report(report, KEY, naming=NAMING, at=NOON),
        message.of_withdrawal(report.report_id, KEY, naming=NAMING, at=NOON),
    ]
    found = []
    for outgoing in sent:
        body = enveloped(outgoing, KEY).body
        assert callable(body)
        found.append(said(body(1)))
    name, uid = NAMING.series(KEY), str(report.report_id)
    assert found == [
        Said("study", "complete", name, None, None, None),
        Said("study", "analysed", name, uid, "final", 1),
        Said("finding", None, None, uid, None, None),
        Said("study", "superseded", name, uid, None, None),
    ]


@pytest.mark.parametrize("body", [None, b"", b"no json", b'{"topic": "status"}'])
def test_what_is_no_message_about_a_study_says_nothing(body: bytes | None) -> None:
    assert said(body) is None
