"""One study: what was found in each of its series, what was not analysed, and what came before.
Pure.

Rules
- Series that were analysed, or failed to be, stand in order of their first image; what was rightly
  set aside stands below, with the reason.
- Of a series each bundle has one report that counts; all its forms, preliminary ones and earlier
  revisions too, stand side by side, the newest last. Of very many the newest COLUMNS are shown.
- Nothing is left out of a report but its ids: every field of a finding has its place in the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.report import Report, SeriesKey
from appliance.room.check import RoomCheck
from appliance.store.identities import Person
from appliance.store.journal.shown import Told
from appliance.store.rows import OwedRow, Received
from appliance.watching.qa import QaRecord
from appliance.web.views import latency, light, timeline
from appliance.web.views.latency import Latency
from appliance.web.views.light import Light
from appliance.web.views.phrase import Phrase
from appliance.web.views.timeline import Delivery, Step

COLUMNS: Final = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One form of a report among the others of its series."""

    report: Report
    stands: bool
    """Whether it is the one that counts."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A report that counts, and what became of it."""

    report: Report
    light: Light
    latency: Latency | None
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class SeriesShown:
    """One series of the study."""

    name: str | None
    """In addresses; None where nothing was said of it yet."""
    images: int
    sender: str
    light: Light
    reports: tuple[Reported, ...]
    steps: tuple[Step, ...]
    columns: tuple[Column, ...]
    """Empty where there is only one form of one report."""
    hidden: int
    """How many older forms are not shown."""
    check: RoomCheck | None
    """Whether it is usable, as far as was checked in the room."""
    phantom: QaRecord | None
    """What was measured of it, where it shows a water phantom."""
    judged: bool
    """Whether a report of it is there."""
    late: tuple[str, ...]
    """What is noted of images that came after its final report."""


@dataclass(frozen=True, slots=True)
class StudyShown:
    """The page."""

    study: str
    """Pseudonym."""
    person: Person | None
    at: float
    """When the first image came."""
    light: Light
    to_do: tuple[Phrase, ...]
    series: tuple[SeriesShown, ...]
    aside: tuple[SeriesShown, ...]


@dataclass(frozen=True, slots=True)
class KnownSeries:
    """What the journal has of one series."""

    received: Received
    name: str | None
    reports: Sequence[Report]
    """All forms, the oldest first."""
    counting: Sequence[Report]
    """Of each bundle the one that counts."""
    told: Sequence[Told]
    sent: Mapping[str, Sequence[OwedRow]] = field(default_factory=dict)
    """What archives were owed, by report_id."""
    late: Sequence[str] = ()
    check: RoomCheck | None = None
    phantom: QaRecord | None = None


def shown(study: str, known: Sequence[KnownSeries], person: Person | None) -> StudyShown:
    """known: at least one series, in order of their first image."""
    pairs = [(one.received, one.counting) for one in known]
    series = [_series(one) for one in known]
    aside = [one for one in series if one.light.sign == "quiet"]
    return StudyShown(
        study=study,
        person=person,
        at=min(one.received.series.first_at for one in known),
        light=light.of_study(pairs),
        to_do=light.to_do([report for one in known for report in one.counting]),
        series=tuple(one for one in series if one.light.sign != "quiet"),
        aside=tuple(aside),
    )


def by_series(latest: Sequence[tuple[SeriesKey, Report]]) -> dict[SeriesKey, list[Report]]:
    """The reports that count, by their series."""
    found: dict[SeriesKey, list[Report]] = {}
    for key, report in latest:
        found.setdefault(key, []).append(report)
    return found


def _series(one: KnownSeries) -> SeriesShown:
    judged = [told.row.created for told in one.told if told.said.event == "complete"]
    reports = tuple(
        Reported(
            report=report,
            light=light.of_series(one.received, [report]),
            latency=latency.of_report(report, judged[-1] if judged else None),
            deliveries=timeline.deliveries(
                report, one.told, one.sent.get(str(report.report_id), ())
            ),
        )
        for report in one.counting
    )
    first = one.counting[0] if one.counting else None
    sent = one.sent.get(str(first.report_id), ()) if first else ()
    several = len(one.reports) > 1
    columns = [Column(report, report in one.counting) for report in one.reports[-COLUMNS:]]
    return SeriesShown(
        name=one.name,
        images=one.received.images,
        sender=one.received.series.calling_ae,
        light=light.of_series(one.received, one.counting),
        reports=reports,
        steps=timeline.steps(one.received, first, one.told, sent),
        columns=tuple(columns) if several else (),
        hidden=max(0, len(one.reports) - COLUMNS) if several else 0,
        check=one.check,
        phantom=one.phantom,
        judged=bool(one.counting),
        late=tuple(one.late),
    )
