"""What happened to a series, from its first slice to the last archive that took its report. Pure.

Rules
- Each step has a time, and how long after the last slice it was. What is not known is no step.
- Steps stand in the order of their times; where two are equal, as they follow from each other.
- It is about one report, the one that counts: what the broker and the archives got of earlier ones
  is left to the table of revisions.
- When an archive promised to keep an object is not noted; that it did is a state of the delivery.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.report import Report
from appliance.results.pacs import ordered
from appliance.store.delivery import State
from appliance.store.journal.shown import Told
from appliance.store.rows import OwedRow, Received
from appliance.web.views.phrase import Phrase


@dataclass(frozen=True, slots=True)
class Step:
    """One of them."""

    what: Phrase
    at: float
    """Seconds since 1970."""
    after_s: float
    """After the last slice; negative: before it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one destination was owed of the report."""

    destination: str
    what: Phrase
    state: State
    at: float | None
    """When it was taken."""
    why: str
    """What it said last against it; empty: nothing."""


def steps(
    one: Received, report: Report | None, told: Sequence[Told], sent: Iterable[OwedRow]
) -> tuple[Step, ...]:
    """Of a series. report: the one that counts; sent: what archives were owed of it."""
    times = report.times if report else None
    first, last = one.series.first_at, one.series.last_at
    if times is not None:
        first, last = _seconds(times.first_slice) or first, _seconds(times.last_slice) or last
    found: list[tuple[Phrase, float | None]] = [
        (Phrase("study.step.first_slice"), first),
        (Phrase("study.step.last_slice"), last),
    ]
    if times is not None:
        found.append((Phrase("study.step.released"), _seconds(times.released)))
    judged = [one.row.created for one in told if one.said.event == "complete"]
    # one from before the last slice was about fewer of them
    found += [(Phrase("study.step.complete"), at) for at in judged[-1:] if at >= last]
    if times is not None:
        found.append((Phrase("study.step.prepared"), _seconds(times.prepared)))
        found.append((Phrase("study.step.inferred"), _seconds(times.inferred)))
    if report is not None:
        found += _said(report, told)
    for row in sent:
        if row.state in (State.DELIVERED, State.COMMITTED):
            found.append((_taken(row), row.delivered_at))
    known = [(what, at) for what, at in found if at is not None]
    return tuple(Step(what, at, at - last) for what, at in sorted(known, key=lambda step: step[1]))


def deliveries(
    report: Report, told: Sequence[Told], sent: Iterable[OwedRow]
) -> tuple[Delivery, ...]:
    """What became of each thing that was owed of a report, the broker first."""
    uid = str(report.report_id)
    of_broker = [
        Delivery(
            one.row.destination,
            Phrase("study.message", {"event": one.said.event or one.said.type}),
            State(one.row.state),
            one.row.delivered_at,
            one.row.last_error or "",
        )
        for one in told
        if one.said.report_id == uid
    ]
    of_archives = [
        Delivery(
            row.destination, _object(row), State(row.state), row.delivered_at, row.last_error or ""
        )
        for row in sent
    ]
    return (*of_broker, *of_archives)


def _said(report: Report, told: Sequence[Told]) -> list[tuple[Phrase, float | None]]:
    """The commit and the PUBACK of each form of the report of which the broker was told."""
    found: list[tuple[Phrase, float | None]] = []
    for one in told:
        if one.said.report_id != str(report.report_id) or one.said.stage is None:
            continue
        values = {"edition": one.said.edition or 1}
        found.append((Phrase(f"study.step.committed_{one.said.stage}", values), one.row.created))
        found.append((Phrase(f"study.step.puback_{one.said.stage}", values), one.row.delivered_at))
    if not found:
        stage, values = report.stage.value, {"edition": report.edition}
        at = _seconds(report.times.committed)
        found.append((Phrase(f"study.step.committed_{stage}", values), at))
    return found


def _taken(row: OwedRow) -> Phrase:
    promised = "promised" if row.state == State.COMMITTED else "taken"
    one = ordered(row.body)
    kind = one.kind if one else "object"
    return Phrase(f"study.step.{promised}", {"archive": row.destination, "kind": kind.upper()})


def _object(row: OwedRow) -> Phrase:
    one = ordered(row.body)
    if one is None:
        return Phrase("study.object", {"kind": "?", "stage": "?"})
    return Phrase("study.object", {"kind": one.kind.upper(), "stage": one.stage})


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
