"""What becomes of the reports of a series whose images a person has discarded (verbs/discard.py).

The images come again, with another header. A bundle that judges them again supersedes its own
report as ever. One that does not, because the header now says that they are none of its business,
would leave a report that nobody takes back: the first final report of the series withdraws it.
"""

from __future__ import annotations

from collections.abc import Collection

from appliance.report import Report, SeriesKey
from appliance.store.journal import Journal


def left_over(journal: Journal, key: SeriesKey, judging: Collection[str | None]) -> list[Report]:
    """The reports that stand of images that are discarded, of bundles that are not `judging`
    the series now (digests; None: no bundle)."""
    row = journal.series.get(key)
    if row is None or row.instances != 0:
        return []
    withdrawn = {report.supersedes for report in journal.reports.of_study(key.study)}
    latest: dict[str | None, Report] = {}
    for report in journal.reports.of_series(key):
        latest[report.bundle.digest if report.bundle else None] = report
    return [
        report
        for digest, report in latest.items()
        if digest not in judging and report.report_id not in withdrawn
    ]
