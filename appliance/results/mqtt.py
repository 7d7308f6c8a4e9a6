"""The destination MQTT: messages (`message.py`) in envelopes, as the journal keeps them.

Rules
- The body of what is owed is an Envelope: topic, QoS, retain and the payload. Only this module and
  the stage `publish` know that; to the journal it is bytes.
- The key is the event_id. So what is said twice under one event_id is sent once.
- Each payload carries the next `seq` of the device.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Literal

from pydantic import ValidationError

from appliance.report import Record, Report, SeriesKey, event_id
from appliance.results import message
from appliance.results.message import Outgoing, Topic
from appliance.results.owed import Owed, SeriesEvent

MQTT = "mqtt"
"""Its name."""


class Envelope(Record):
    """A message as it waits. `topic` is relative to the device's root."""

    topic: Topic
    qos: Literal[0, 1]
    retain: bool
    payload: str
    """JSON of a Message, its number included."""


class Mqtt:
    """The row of the registry."""

    name = MQTT
    stage = "publish"
    numbered = True

    def of_event(
        self, event: SeriesEvent, key: SeriesKey, *, study: str, slices: int, at: datetime
    ) -> Iterator[Owed]:
        sent = message.of_series(event, study=study, series_uid=key.series, slices=slices, at=at)
        yield enveloped(sent, key)

    def of_report(self, report: Report, key: SeriesKey, *, at: datetime) -> Iterator[Owed]:
        for sent in message.of_report(report, series_uid=key.series, at=at):
            yield enveloped(sent, key)

    def of_withdrawal(
        self,
        report_id: uuid.UUID | str,
        key: SeriesKey,
        *,
        study: str,
        at: datetime,
        edition: int = 1,
    ) -> Iterator[Owed]:
        sent = message.of_withdrawal(
            report_id, study, series_uid=key.series, at=at, edition=edition
        )
        yield enveloped(sent, key)

    def described(self, key: str, body: bytes | None) -> str:
        try:
            return Envelope.model_validate_json(body or b"").topic
        except ValidationError:
            return key


def enveloped(outgoing: Outgoing, series: SeriesKey | None = None) -> Owed:
    """A message as what is owed. series: whose deletion waits for it."""

    def body(number: int) -> bytes:
        envelope = Envelope(
            topic=outgoing.topic,
            qos=outgoing.qos,
            retain=outgoing.retain,
            payload=outgoing.message.to_json(number),
        )
        return envelope.model_dump_json().encode()

    return Owed(MQTT, str(outgoing.message.event_id), series, body)


def keys_of(report: Report) -> tuple[str, ...]:
    """The keys of all messages of a report, as its edition has them, and of its withdrawal. They
    depend on it alone."""
    at = datetime.min.replace(tzinfo=timezone.utc)
    own = (sent.message.event_id for sent in message.of_report(report, series_uid="", at=at))
    return (*map(str, own), str(event_id(report.report_id, "superseded")))
