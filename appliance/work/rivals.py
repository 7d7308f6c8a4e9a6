"""The other series of a study, as the journal has them, and what becomes of each.

Rules
- Only the latest reports of one bundle count, where they are final and were analysed. Of what was
  analysed and is not said, because another series stands in its place, the report is kept beside
  its masks (`Compared`); so a series that has to stand again needs no second inference.
- Whenever a series gets a final report, all of its group are judged anew (series/standing.py). What
  changes for another series is a new edition of its report: under the same id, in the same
  transaction, and said again where it stands. So the journal says the same for every order of
  arrival, and what is published last of each report is what the journal says.
- A report of before, beside which nothing is kept, is in the group that its first image names. What
  its series shows is unknown: it stands.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from appliance.bundle.accepts import Accepts
from appliance.lines import choose
from appliance.naming import Naming
from appliance.reasons import Code
from appliance.report import Record, Report, SeriesKey, Stage, Status
from appliance.results import destinations
from appliance.results.owed import Destination, Owed, Withdrawn
from appliance.series import kernel, pixels, select, standing
from appliance.series.standing import SeriesSummary, Standing
from appliance.store.journal import Journal
from appliance.store.kept import keep_record, kept_record
from appliance.store.spool import Spool

COMPARED = "compared"


class Compared(Record):
    """What is kept beside the report of a series that was analysed, for the choice between them."""

    summary: SeriesSummary
    report: Report | None = None
    """As it was analysed; needed where another series stands in its place."""


@dataclass(frozen=True)
class Other:
    """Another series of the study, which was analysed for the same bundle."""

    summary: SeriesSummary
    said: Report
    """As the journal has it."""
    analysed: Report
    """As it was analysed, without a word of other series."""


@dataclass(frozen=True)
class Change:
    """What a new final report of one series changes for another one."""

    before: Report
    after: Report
    """Its next edition."""
    by: SeriesKey | None
    """Which stands in its place."""
    kept: Compared
    """What the next choice needs, now that the journal may say less."""


@dataclass(frozen=True)
class Judged:
    """What becomes of a series, and what changes for the others of its study."""

    key: SeriesKey
    what: Standing = field(default_factory=Standing)
    changes: Mapping[SeriesKey, Change] = field(default_factory=dict)

    own: tuple[Report, ...] = ()
    """Reports of this series that do not stand any more."""

    @property
    def replaced(self) -> tuple[uuid.UUID, ...]:
        """The reports in whose place this series stands."""
        return tuple(old.report_id for old in self.withdrawn if old.by == self.key)

    @property
    def withdrawn(self) -> tuple[Withdrawn, ...]:
        """What stands no more."""
        others = (
            Withdrawn(change.before.report_id, change.before.edition, change.by)
            for change in self.changes.values()
            if change.by is not None and change.before.status is Status.ANALYSED
        )
        own = (Withdrawn(old.report_id, old.edition, self.key) for old in self.own)
        return (*others, *own)

    def keep(self, state: Path, summary: SeriesSummary | None, analysed: Report) -> None:
        """For the next choice: of this series, and of those that the journal says no more."""
        if summary is not None:
            beaten = analysed if self.what.by is not None else None
            kept = Compared(summary=summary, report=beaten)
            keep_record(state, analysed.report_id, COMPARED, kept)
        for change in self.changes.values():
            keep_record(state, change.after.report_id, COMPARED, change.kept)

    def owed(
        self,
        report: Report,
        *,
        naming: Naming,
        at: datetime,
        completes: Report | None,
        to: Sequence[Destination],
    ) -> Iterator[Owed]:
        """Withdrawals, the report, then what is said again of others; to all destinations."""
        of_report = partial(destinations.of_report, naming=naming, at=at, to=to)
        yield from of_report(report, self.key, withdraws=self.withdrawn, completes=completes)
        for key, change in self.changes.items():
            if change.by is None:
                yield from of_report(change.after, key, completes=change.before)


class Rivals:
    """The others of one series and bundle."""

    def __init__(
        self, journal: Journal, spool: Spool, state: Path, key: SeriesKey, digest: str
    ) -> None:
        self._state = state
        self._others: dict[SeriesKey, Other] = {}
        for row in journal.series.of_study(key.study):
            said = journal.reports.latest(row.key, digest) if row.key != key else None
            if said is not None and said.stage is Stage.FINAL:
                other = _other(row.key, said, state, spool)
                if other is not None:
                    self._others[row.key] = other

    def standing(
        self, mine: SeriesSummary | None, accepts: Accepts
    ) -> Mapping[SeriesKey, Standing]:
        """What becomes of each of them, and of this series; None where that was not analysed."""
        every = [other.summary for other in self._others.values()]
        return standing.standing([*every, *([mine] if mine else [])], accepts)

    def outrank(self, mine: SeriesSummary, accepts: Accepts) -> bool:
        """Whether one of them ranks better than this series, whatever it shows."""
        return standing.outranked(mine, [o.summary for o in self._others.values()], accepts)

    def changes(
        self, found: Mapping[SeriesKey, Standing], named: Callable[[SeriesKey], str]
    ) -> dict[SeriesKey, Change]:
        """What is to be said of the others from now on."""
        changes: dict[SeriesKey, Change] = {}
        for key, other in self._others.items():
            what = found[key]
            after = choose.restated(other.analysed, what, named)
            if of_others(after) != of_others(other.said):
                edition = {"edition": other.said.edition + 1, "supersedes": other.said.supersedes}
                changes[key] = Change(
                    before=other.said,
                    after=after.model_copy(update=edition),
                    by=what.by.key if what.by else None,
                    kept=Compared(summary=other.summary, report=other.analysed),
                )
        return changes


def as_analysed(state: Path, said: Report) -> Report:
    """The report of a series in whose place another stands, as the series was analysed; what was
    analysed is as it is said."""
    kept = None
    if said.status is not Status.ANALYSED and of_others(said) is not None:
        kept = kept_record(state, said.report_id, COMPARED, Compared)
    return kept.report if kept is not None and kept.report is not None else said


def of_others(report: Report) -> tuple[object, ...] | None:
    """What a report says of other series; None where it was refused, or failed, by itself."""
    if report.status is Status.ANALYSED:
        return tuple(r for r in report.limitations if r.code is Code.ALSO_SHOWN_IN)
    if report.reasons[0].code is Code.BETTER_SERIES:
        return (report.status, report.reasons)
    return None


def _other(key: SeriesKey, said: Report, state: Path, spool: Spool) -> Other | None:
    compared = kept_record(state, said.report_id, COMPARED, Compared)
    if compared is not None and compared.summary.key != key:
        compared = None
    if said.status is Status.ANALYSED:
        summary = compared.summary if compared else _unknown(key, said, spool)
        return Other(summary, said, choose.own_words(said)) if summary else None
    if of_others(said) is not None and compared is not None and compared.report is not None:
        return Other(compared.summary, said, compared.report)
    return None


def _unknown(key: SeriesKey, said: Report, spool: Spool) -> SeriesSummary | None:
    """Of a report of before; None for what is no volume, or has no images any more."""
    paths = list(spool.instances(key).values())
    if not paths or said.series.spacing_mm is None:
        return None
    header = pixels.header(paths[0].read_bytes())
    return SeriesSummary(
        study_uid=key.study,
        series_uid=key.series,
        frame_of_reference_uid=header.frame_of_reference_uid,
        acquisition_number=header.acquisition_number,
        temporal_position=header.temporal_position,
        original=select.original(header),
        spacing_mm=said.series.spacing_mm[0],
        thickness_mm=said.series.thickness_mm,
        kernel=kernel.published(header.kernel),
        slices=said.series.slices,
        coverage=said.coverage,
    )
