"""The destination MQTT: envelopes, and keys that do not change."""

from __future__ import annotations

import json
from datetime import datetime, timezone

from appliance.report import SeriesKey, event_id
from appliance.results import message
from appliance.results.mqtt import MQTT, Envelope, Mqtt, enveloped
from appliance.results.owed import Body

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
KEY = SeriesKey("1.2", "1.2.3")


def opened(body: Body, number: int) -> Envelope:
    assert callable(body)
    return Envelope.model_validate_json(body(number))


def test_an_envelope_holds_the_message_with_the_number_that_was_drawn() -> None:
    said = message.of_series("received", study="c" * 32, series_uid=KEY.series, slices=3, at=NOON)
    owed = enveloped(said, KEY)
    assert (owed.destination, owed.key, owed.series) == (MQTT, str(said.message.event_id), KEY)
    envelope = opened(owed.body, 41)
    assert (envelope.topic, envelope.qos, envelope.retain) == (f"study/{'c' * 32}/event", 1, False)
    assert envelope.payload == said.message.to_json(41)
    assert json.loads(envelope.payload)["seq"] == 41


def test_a_withdrawal_is_keyed_by_the_report_alone() -> None:
    (owed,) = Mqtt().of_withdrawal(
        "7c9e6679-7425-40de-944b-e07fc1f90ae7", KEY, study="c" * 32, at=NOON
    )
    assert owed.key == str(event_id("7c9e6679-7425-40de-944b-e07fc1f90ae7", "superseded"))


def test_a_person_reads_the_topic_or_where_the_body_is_none_of_ours_the_key() -> None:
    (owed,) = Mqtt().of_event("complete", KEY, study="c" * 32, slices=3, at=NOON)
    body = owed.body(1) if callable(owed.body) else b""
    assert Mqtt().described(owed.key, body) == f"study/{'c' * 32}/event"
    assert Mqtt().described(owed.key, b"\xff") == Mqtt().described(owed.key, None) == owed.key
