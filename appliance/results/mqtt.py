"""The destination MQTT: messages (`message.py`) in envelopes, as the journal keeps them.

Rules
- The body of what is owed is an Envelope: topic, QoS, retain and the payload. Only this module and
  the stage `publish` know that; to the journal it is bytes.
- The key is the event_id. So what is said twice under one event_id is sent once.
- Each payload carries the next `seq` of the device.
- The messages of a report are found by what they say (`is_about`), for the stage `publish` cannot
  compute their keys: it has no site key.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from appliance.comparison import Comparison
from appliance.naming import Naming
from appliance.report import Record, Report, SeriesKey, Stage
from appliance.results import compared, message, qa
from appliance.results.message import Outgoing, Topic
from appliance.results.owed import Owed, SeriesEvent
from appliance.room.check import RoomCheck
from appliance.watching.qa import QaRecord

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
        self, event: SeriesEvent, key: SeriesKey, *, naming: Naming, slices: int, at: datetime
    ) -> Iterator[Owed]:
        yield enveloped(message.of_series(event, key, naming=naming, slices=slices, at=at), key)

    def of_report(
        self,
        report: Report,
        key: SeriesKey,
        *,
        naming: Naming,
        at: datetime,
        completes: Report | None = None,
        superseded: int = 1,
    ) -> Iterator[Owed]:
        sent = message.of_report(
            report, key, naming=naming, at=at, completes=completes, superseded=superseded
        )
        for outgoing in sent:
            yield enveloped(outgoing, key)

    def of_withdrawal(
        self,
        report_id: uuid.UUID,
        key: SeriesKey,
        *,
        naming: Naming,
        at: datetime,
        edition: int = 1,
    ) -> Iterator[Owed]:
        sent = message.of_withdrawal(report_id, key, naming=naming, at=at, edition=edition)
        yield enveloped(sent, key)

    def of_check(
        self, check: RoomCheck, report: Report, key: SeriesKey, *, naming: Naming, at: datetime
    ) -> Iterator[Owed]:
        """The in-room check of a report."""
        yield enveloped(message.of_check(check, report, key, naming=naming, at=at), key)

    def of_comparison(
        self,
        comparison: Comparison,
        key: SeriesKey,
        *,
        withdrawn: Sequence[uuid.UUID],
        naming: Naming,
        at: datetime,
    ) -> Iterator[Owed]:
        """A comparison with an earlier exam, and what counts no more because of it."""
        said = compared.message(comparison, key, withdrawn=withdrawn, naming=naming, at=at)
        yield enveloped(Outgoing(topic=f"study/{said.study}/event", qos=1, message=said), key)

    def of_qa(
        self, record: QaRecord, key: SeriesKey, *, naming: Naming, at: datetime
    ) -> Iterator[Owed]:
        """What was measured of a water phantom."""
        said = qa.message(record, key, naming=naming, at=at)
        yield enveloped(Outgoing(topic=f"study/{said.study}/event", qos=1, message=said), key)

    def described(self, key: str, body: bytes | None) -> str:
        try:
            return Envelope.stored(body or b"").topic
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


@dataclass(frozen=True, slots=True)
class Said:
    """What a message, as the journal keeps it, says of a series or a report."""

    type: str
    """Of the message: study, finding, findings, comparison or qa."""
    event: str | None
    """Of an event of a study, such as `complete`."""
    series: uuid.UUID | None
    """The published name of the series that the event names."""
    report_id: str | None
    """The report that it is about, or that it withdraws."""
    stage: str | None
    """Of the whole report that it carries; None where it carries none."""
    edition: int | None
    """The same."""


def said(body: bytes | None) -> Said | None:
    """The same as a person or a page wants to know it; None for what is no message about a study.
    It may be of an earlier release."""
    if (found := _payload(body)) is None or not isinstance(found.get("type"), str):
        return None
    whole = found.get("report")
    report = whole if isinstance(whole, dict) else {}
    beside = found.get("checked") or found.get("comparison")
    about = (
        report.get("report_id")
        or (beside.get("report_id") if isinstance(beside, dict) else None)
        or found.get("withdrawn_report_id")
        or found.get("report_id")
    )
    series = None
    with suppress(ValueError):
        series = uuid.UUID(str(found.get("series")))
    event, stage, edition = found.get("event"), report.get("stage"), report.get("edition")
    return Said(
        type=found["type"],
        event=event if isinstance(event, str) else None,
        series=series,
        report_id=about if isinstance(about, str) else None,
        stage=stage if isinstance(stage, str) else None,
        edition=edition if isinstance(edition, int) else None,
    )


def is_about(body: bytes | None, report: Report) -> bool:
    """Whether a message, as the journal keeps it, is one of a report: its event, its findings, its
    check, its comparisons, its phantom, what readers said of it, its withdrawal, or the withdrawal
    of the one that it supersedes. It may be of an earlier release."""
    if (found := _payload(body)) is None:
        return False
    uid = str(report.report_id)
    if found.get("withdrawn_report_id") is not None:
        return found["withdrawn_report_id"] in (uid, str(report.supersedes))
    whole = found.get("report") or found.get("checked")
    if isinstance(whole, dict):
        return (whole.get("report_id"), whole.get("stage")) == (uid, report.stage.value)
    compared = found.get("comparison")
    if isinstance(compared, dict):
        return compared.get("report_id") == uid and report.stage is Stage.FINAL
    return found.get("report_id") == uid


def _payload(body: bytes | None) -> dict[str, Any] | None:
    """The message in an envelope; None where there is none to be read."""
    try:
        found = json.loads(Envelope.stored(body or b"").payload)
    except ValueError:  # a ValidationError is one too
        return None
    return found if isinstance(found, dict) else None
