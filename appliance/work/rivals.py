"""What the journal says of the other series of a study: which of them this one must beat.

Only reports of the same bundle count that are analysed, final, and withdrawn by nothing yet. Which
series stands, `choose` decides.
"""

from __future__ import annotations

from appliance.lines import choose
from appliance.report import Reason, SeriesKey, Stage, Status
from appliance.runtime.bundles import OpenBundle
from appliance.series import pixels, select
from appliance.series.select import SeriesSummary
from appliance.store.journal import Journal
from appliance.store.spool import Spool


def judged(
    journal: Journal, spool: Spool, key: SeriesKey, opened: OpenBundle, mine: SeriesSummary
) -> tuple[tuple[Reason, ...], tuple[str, ...]]:
    """(reasons against `key`, ()) where a better series of its study was analysed; else ((), ids of
    the reports that this one withdraws)."""
    others = _others(journal, spool, key, opened)
    beaten = choose.beaten([mine, *others], opened.manifest.accepts)
    if mine in beaten:
        return (select.better(beaten[mine]),), ()
    return (), tuple(others[one] for one, by in beaten.items() if by == mine)


def _others(
    journal: Journal, spool: Spool, key: SeriesKey, opened: OpenBundle
) -> dict[SeriesSummary, str]:
    """The other series of the study -> the id of the report that stands."""
    withdrawn = {report.supersedes for report in journal.reports.of_study(key.study)}
    found: dict[SeriesSummary, str] = {}
    for row in journal.series.of_study(key.study):
        report = journal.reports.latest(row.key, opened.digest)
        if row.series_uid == key.series or report is None or report.report_id in withdrawn:
            continue
        if report.status is not Status.ANALYSED or report.stage is not Stage.FINAL:
            continue
        paths = list(spool.instances(row.key).values())
        if paths and report.series.spacing_mm is not None and report.coverage.z_mm is not None:
            low, high = report.coverage.z_mm
            one = select.summary(
                pixels.header(paths[0].read_bytes()),
                axial=True,
                spacing_mm=report.series.spacing_mm[0],
                cover_mm=high - low,
                slices=report.series.slices,
            )
            found[one] = str(report.report_id)
    return found
