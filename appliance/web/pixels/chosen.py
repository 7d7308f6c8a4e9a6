"""Which series and which of its results the viewer shows.

Rules
- A series may have several results: of several bundles, and of each one earlier forms that do not
  count any more. Each is reachable by its report_id; the form of it that was written last is shown.
- Without a choice it is the result that counts; of those of several bundles the first one that was
  analysed, in the order of the page of the study: the image begins with the findings of its first
  table.
- Of very many the newest MOST can be chosen, and all that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.report import Record, Report, SeriesKey, Stage, Status
from appliance.store.journal import Journal
from appliance.web.views.address import series_of

MOST: Final = 20


class Choice(Record):
    """One result that can be shown."""

    report: str
    """Its report_id."""
    revision: int
    edition: int
    stage: Stage
    bundle: str | None
    """Name and version."""
    stands: bool
    """Whether it counts."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an address asks for."""

    key: SeriesKey
    report: Report | None
    """None where nothing was reported yet."""
    choices: tuple[Choice, ...]
    """The newest first; those of findings alone."""


def chosen(journal: Journal, study: str, series: str, report: str | None) -> Chosen | None:
    """study, series: names of an address; report: the report_id that is asked for, None: the one
    that counts. None where there is no such series, or no such result of it."""
    key = series_of(journal, study, series)
    if key is None:
        return None
    counting = [one for of, one in journal.shown.latest([key.study]) if of == key]
    last = {str(one.report_id): one for one in journal.reports.of_series(key)}
    choices = _choices(list(last.values()), counting)
    if report is not None:
        found = last.get(report)
        return None if found is None else Chosen(key, found, choices)
    analysed = (one for one in counting if one.status is Status.ANALYSED)
    return Chosen(key, next(analysed, None) or journal.reports.latest(key), choices)


def _choices(reports: Sequence[Report], counting: Sequence[Report]) -> tuple[Choice, ...]:
    """reports: the last form of each, the oldest first."""
    stand = {one.report_id for one in counting}
    analysed = [one for one in reversed(reports) if one.status is Status.ANALYSED]
    return tuple(
        Choice(
            report=str(one.report_id),
            revision=one.revision,
            edition=one.edition,
            stage=one.stage,
            bundle=None if one.bundle is None else f"{one.bundle.name} {one.bundle.version}",
            stands=one.report_id in stand,
        )
        for n, one in enumerate(analysed)
        if n < MOST or one.report_id in stand
    )
