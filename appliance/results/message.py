"""The whitelist of what leaves the device over MQTT. Pure: records in, topic and payload out.

Root `scanside/v1/{site}/{device}/`. Every payload is JSON with `schema`, `event_id`, `seq` (per
device, survives restarts), `at`, and stands alone. Nothing that is not a field here can leave:
no name, no patient id, no birth date, no accession number; UIDs only where the site lets them out.

| topic                    | QoS | retained | payload                                    |
|--------------------------|-----|----------|--------------------------------------------|
| status                   | 1   | yes      | StatusMessage; also the will, `offline`    |
| info                     | 1   | yes      | InfoMessage                                |
| update/reported          | 1   | yes      | UpdateMessage, where there are slots       |
| health                   | 0   | no       | HealthMessage, with expiry (v5 3.3.2.3.3)  |
| scanner/event            | 1   | no       | ScannerMessage                             |
| study/{pseudonym}/event  | 1   | no       | StudyEvent, FeedbackMessage, and of an     |
|                          |     |          | earlier exam ComparisonMessage; of a water |
|                          |     |          | phantom QaMessage                          |
| finding/{urgency}        | 1   | no       | FindingMessage; FindingsMessage (GATHERED) |
| reply/... (named in cmd) | 1   | no       | ReplyMessage                               |
| study/doctor/event, ...  | 1   | no       | CheckMessage, from `scanside doctor` alone |

A report is said again where what it says of other series of its study changes, or where it stands
again: under its `report_id`, with the next `edition`. The edition is part of the event_id, also of
the `superseded` of a later edition, so that a consumer that drops doubles does not drop it. The
event carries the whole report; finding messages that were sent are not repeated.

Findings that are unsure for a reason of GATHERED are many and mean one thing. They go out in one
message of type `findings`, which carries each of them and says their number, and in no message of
their own. Its topic is that of the most urgent of them.

`checked` says whether the exam is usable as far as was checked (appliance/room). It comes after the
messages of its report, once with each of its stages, and changes nothing that the report says.

What a reader says at the device goes out as it is said, one message an act. It names the reader's
role and nothing else of them, and no comment.

All but `status`, `info`, `update`, `health`, `reply` and what the doctor sends go through the
outbox. A figure the machine does not give is null, never 0. Texts come from this code, the settings
or the bundle (its notice), never from a DICOM header. What the device says of itself: device.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import Field

from appliance.naming import Naming
from appliance.report import (
    BundleRef,
    Digest,
    Doubt,
    Finding,
    Millimetres3,
    Reason,
    Record,
    Report,
    Sentence,
    SeriesKey,
    Stage,
    Status,
    Urgency,
    Verb,
    absent,
)
from appliance.results.compared import ComparisonMessage
from appliance.results.feedback import Feedback, PlacePx, ReaderRole, Verdict
from appliance.results.payload import SCHEMA, Message
from appliance.results.qa import QaMessage
from appliance.results.scanners import ScannerMessage
from appliance.room.check import RoomCheck
from appliance.watching.told import ToldRow

__all__ = ["SCHEMA", "Message"]

ROOT = "scanside/v1"
GATHERED: frozenset[Doubt] = frozenset(
    {"inside disease", "one of many ground-glass findings on both sides"}
)
"""Findings that are unsure for one of these go out in one message."""

DeviceState = Literal["init", "online", "degraded", "updating", "stopped", "offline"]
EventName = Literal[
    "received", "complete", "preliminary", "analysed", "not_analysed", "failed", "superseded",
    "checked",
]  # fmt: skip
Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}(/[A-Za-z0-9_.-]{1,64}){0,7}$")]
"""A topic relative to the device's root: no wildcard, no empty level, no leading slash (v5 4.7)."""


class StatusMessage(Message):
    type: Literal["status"] = "status"
    state: DeviceState
    reasons: tuple[str, ...] = ()


class InfoMessage(Message):
    type: Literal["info"] = "info"
    version: str
    ae_title: str
    port: int
    bundles: tuple[BundleRef, ...] = ()
    backend: str | None = None
    machine: dict[str, str] = Field(default_factory=dict)


class UpdateMessage(Message):
    """How updates stand on this device: the release in hand or the last one by its path, how far it
    is, and the codes of why it does not go on."""

    type: Literal["update"] = "update"
    release: str | None = None
    version: str
    slot: int = Field(ge=0)
    state: str | None = None
    why: tuple[str, ...] = ()
    hold: bool = False
    recalled: bool = False


class AuditHead(Record):
    """Number and hash of the last row of the audit: whoever keeps it sees a chain that was made
    anew or cut short."""

    row: int = Field(ge=0)
    hash: Digest


class HealthMessage(Message):
    type: Literal["health"] = "health"
    uptime_s: float | None = None
    load: float | None = None
    memory_available_mb: float | None = None
    disk_free_mb: float | None = None
    spool_series: int | None = None
    outbox_waiting: int = Field(ge=0)
    outbox_dead: int = Field(default=0, ge=0)
    oldest_waiting_s: float | None = None
    stages: dict[str, str] = Field(default_factory=dict)
    """By name: absent, down, starting, stuck or running (store/conditions.py); publish: paused."""
    engine: Sentence | None = None
    """Whether the GPU analyses, whether an engine is built, or why the CPU serves instead."""
    audit_head: AuditHead | None = None
    person_doubts: dict[str, int] | None = Field(
        default=None,
        exclude_if=absent,
        description="how often an exam and an earlier one of the same id were found to be of two "
        "people, or mirrored, by reason; not written while that never was",
    )
    watch: tuple[ToldRow, ...] | None = Field(
        default=None,
        exclude_if=absent,
        description="at most 20 rows of the library of scanners, those with an alarm first; not "
        "written while there is none",
    )


class Checked(Record):
    """The in-room check of one report: whether the exam is usable as far as was checked."""

    report_id: uuid.UUID
    stage: Stage
    check: RoomCheck


class StudyEvent(Message):
    """`analysed`, `not_analysed`, `failed` and `preliminary` carry the whole report, `checked` the
    in-room check of one."""

    type: Literal["study"] = "study"
    event: EventName
    study: str = Field(pattern=r"^[0-9a-f]{32}$")
    series: uuid.UUID
    """UUIDv5 of the series: tells two series of a study apart without letting the UID out."""
    slices: int | None = None
    report: Report | None = None
    withdrawn_report_id: uuid.UUID | None = None
    reasons: tuple[Reason, ...] = ()
    checked: Checked | None = Field(
        default=None, exclude_if=absent, description="of `checked` alone; not written elsewhere"
    )


class FindingMessage(Message):
    type: Literal["finding"] = "finding"
    report_id: uuid.UUID
    study: str = Field(pattern=r"^[0-9a-f]{32}$")
    stage: Stage
    finding: Finding
    bundle: BundleRef
    limitations: tuple[Reason, ...] = ()


class FindingsMessage(Message):
    """Findings that are unsure for one of GATHERED, best first."""

    type: Literal["findings"] = "findings"
    report_id: uuid.UUID
    study: str = Field(pattern=r"^[0-9a-f]{32}$")
    stage: Stage
    number: int = Field(ge=1, description="how many findings this message carries")
    findings: tuple[Finding, ...]
    bundle: BundleRef
    limitations: tuple[Reason, ...] = ()


class FeedbackMessage(Message):
    """What a reader said of a report, one act; event_id is the name of the act. Of one finding the
    last one counts that no other one takes back."""

    type: Literal["feedback"] = "feedback"
    event: Literal["feedback"] = "feedback"
    study: str = Field(pattern=r"^[0-9a-f]{32}$")
    series: uuid.UUID | None = Field(
        description="as the events of the study name it; null where the device does not know it "
        "any more"
    )
    report_id: uuid.UUID
    bundle_digest: Digest | None
    verdict: Verdict
    finding: int | None = Field(description="its number; null of what was missed")
    center_lps_mm: Millimetres3 | None = Field(description="of what was missed alone")
    place_px: PlacePx | None = Field(
        default=None,
        exclude_if=absent,
        description="of what was missed on a radiograph, in place of center_lps_mm; not written "
        "where there is none",
    )
    size_mm: float | None = Field(description="of what was missed, as the reader said it")
    undoes: uuid.UUID | None = Field(description="event_id of the act that is taken back")
    role: ReaderRole


class Command(Record):
    """What may come in on cmd/{verb}. `reply_to` is a topic below the device's root."""

    id: str = Field(default="", max_length=64)
    reply_to: str | None = Field(default=None, max_length=256)
    report_id: uuid.UUID | None = None
    study: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    """The pseudonym of a study, as its events have it."""


class ReplyMessage(Message):
    type: Literal["reply"] = "reply"
    verb: Verb | Literal["unknown"]
    """`unknown` stands for every verb that is none: what came is never repeated."""
    id: str = ""
    ok: bool
    text: Sentence = ""


class CheckMessage(Message):
    """What `scanside doctor` sends to hear it again; a consumer passes it over."""

    type: Literal["check"] = "check"
    filler: str = Field(default="", max_length=65536)
    """Makes it as large as a report may be."""


class Outgoing(Record):
    """A message on its way: `topic` is relative to the device's root."""

    topic: Topic
    qos: Literal[0, 1]
    retain: bool = False
    message: (
        StatusMessage
        | InfoMessage
        | UpdateMessage
        | HealthMessage
        | ScannerMessage
        | StudyEvent
        | FindingMessage
        | FindingsMessage
        | FeedbackMessage
        | ComparisonMessage
        | QaMessage
        | ReplyMessage
        | CheckMessage
    ) = Field(discriminator="type")


def root(site: str, device: str) -> str:
    """scanside/v1/{site}/{device}"""
    return f"{ROOT}/{site}/{device}"


def of_series(
    event: EventName, key: SeriesKey, *, naming: Naming, slices: int, at: datetime
) -> Outgoing:
    """`received` or `complete`: facts of a series before there is a report."""
    study, series = naming.study(key.study), naming.series(key)
    return Outgoing(
        topic=f"study/{study}/event",
        qos=1,
        message=StudyEvent(
            event_id=naming.event(series, f"{event} {slices}"),
            at=at,
            event=event,
            study=study,
            series=series,
            slices=slices,
        ),
    )


def of_withdrawal(
    report_id: uuid.UUID, key: SeriesKey, *, naming: Naming, at: datetime, edition: int = 1
) -> Outgoing:
    """`superseded`: this report does not count any more. key: of the series that replaces it;
    edition: of the report that is withdrawn."""
    study = naming.study(key.study)
    return Outgoing(
        topic=f"study/{study}/event",
        qos=1,
        message=StudyEvent(
            event_id=naming.event(report_id, _numbered("superseded", edition)),
            at=at,
            event="superseded",
            study=study,
            series=naming.series(key),
            withdrawn_report_id=report_id,
        ),
    )


def of_report(
    report: Report,
    key: SeriesKey,
    *,
    naming: Naming,
    at: datetime,
    completes: Report | None = None,
    superseded: int = 1,
) -> Iterator[Outgoing]:
    """All messages of one report, in order: the withdrawn one, the event, then each finding, then
    what is gathered.

    completes: an earlier form of it, such as its preliminary one or the edition before, whose
    withdrawal and findings were sent with it and are not sent again.
    superseded: edition of the report that it supersedes.
    """
    study = report.study.pseudonym
    withdrawn = completes.supersedes if completes else None
    if report.supersedes is not None and report.supersedes != withdrawn:
        yield of_withdrawal(report.supersedes, key, naming=naming, at=at, edition=superseded)
    event: EventName = report.status.value
    if report.status is Status.ANALYSED and report.stage is Stage.PRELIMINARY:
        event = "preliminary"
    yield Outgoing(
        topic=f"study/{study}/event",
        qos=1,
        message=StudyEvent(
            event_id=naming.event(report.report_id, _numbered(event, report.edition)),
            at=at,
            event=event,
            study=study,
            series=naming.series(key),
            slices=report.series.slices,
            report=report,
            reasons=report.reasons,
            notice=report.notice,
        ),
    )
    sent = {finding.id for finding in completes.findings} if completes else set()
    yield from _of_findings([f for f in report.findings if f.id not in sent], report, naming, at)


def of_check(
    check: RoomCheck, report: Report, key: SeriesKey, *, naming: Naming, at: datetime
) -> Outgoing:
    """`checked`: the in-room check of a report, after that report's own messages."""
    study, uid = report.study.pseudonym, report.report_id
    event = _numbered(f"checked {report.stage.value}", report.edition)
    return Outgoing(
        topic=f"study/{study}/event",
        qos=1,
        message=StudyEvent(
            event_id=naming.event(uid, event),
            at=at,
            event="checked",
            study=study,
            series=naming.series(key),
            slices=report.series.slices,
            checked=Checked(report_id=uid, stage=report.stage, check=check),
            notice=report.notice,
        ),
    )


def of_feedback(said: Feedback) -> Outgoing:
    """One act of a reader; never its reader's keyed id, nor a score."""
    return Outgoing(
        topic=f"study/{said.study}/event",
        qos=1,
        message=FeedbackMessage(
            event_id=said.uid,
            at=datetime.fromtimestamp(said.at, timezone.utc),
            study=said.study,
            series=said.series,
            report_id=said.report_id,
            bundle_digest=said.bundle,
            verdict=said.verdict,
            finding=said.finding,
            center_lps_mm=said.center_lps_mm,
            place_px=said.place_px,
            size_mm=said.size_mm,
            undoes=said.undoes,
            role=said.role,
        ),
    )


def _of_findings(
    findings: Sequence[Finding], report: Report, naming: Naming, at: datetime
) -> Iterator[Outgoing]:
    """A message for each finding of a report, and one for all that are gathered."""
    if not findings:
        return
    if report.bundle is None:
        raise ValueError("findings without a bundle")
    common: dict[str, Any] = {
        "at": at,
        "report_id": report.report_id,
        "study": report.study.pseudonym,
        "stage": report.stage,
        "bundle": report.bundle,
        "limitations": report.limitations,
        "notice": report.notice,
    }
    gathered = tuple(f for f in findings if not GATHERED.isdisjoint(f.unsure_why))
    for one in (f for f in findings if f not in gathered):
        event_id = naming.event(report.report_id, "finding", one.id)
        alone = FindingMessage(event_id=event_id, finding=one, **common)
        yield Outgoing(topic=f"finding/{one.urgency.value}", qos=1, message=alone)
    if gathered:
        most = min((f.urgency for f in gathered), key=list(Urgency).index)
        event_id = naming.event(report.report_id, "findings")
        together = FindingsMessage(
            event_id=event_id, number=len(gathered), findings=gathered, **common
        )
        yield Outgoing(topic=f"finding/{most.value}", qos=1, message=together)


def _numbered(event: str, edition: int) -> str:
    """What an event_id is made of: the first edition of a report has no number."""
    return event if edition == 1 else f"{event} {edition}"
