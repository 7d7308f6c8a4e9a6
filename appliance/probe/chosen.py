"""Which series are probed: of each scanner the one that was analysed last.

Rules.
1. Of a final report that stands, of an active bundle that has shapes, whose images are still here;
   `retain` waits for nobody. Whose images they are, its quality.json says (watching/quality.py).
2. Of each scanner the newest alone, and once: what was probed stands in probe/ (store/probed.py).
   Where the newest was probed, or its images are gone, no older one takes its place.
3. No earlier exam, for it is of another house's scanner; no phantom of ours.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from appliance.dicom import policy
from appliance.naming import MAKER, Naming
from appliance.report import Report, SeriesKey, Stage, Status
from appliance.settings import Settings
from appliance.store import kept, probed
from appliance.store.journal import Journal
from appliance.store.kept import QUALITY
from appliance.watching.quality import SeriesQuality
from appliance.watching.scanner import Scanner

NEWEST: Final = 200
"""Reports that are looked at, both stages: some days of a busy site."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A series that is to be probed."""

    key: SeriesKey
    name: uuid.UUID
    """Of the series, by the site key."""
    report: Report
    bundle: str
    """Digest of the bundle of its report."""
    scanner: Scanner


def chosen(
    settings: Settings, journal: Journal, naming: Naming, bundles: Collection[str]
) -> Iterator[Chosen]:
    """The series that wait, by rules 1 to 3, the newest first. bundles: digests of those that have
    shapes."""
    seen: set[tuple[Scanner, str]] = set()
    for report in journal.reports.recent(NEWEST):
        found = _of_report(settings, journal, naming, report)
        if found is None or found.bundle not in bundles:
            continue
        if (found.scanner, found.bundle) in seen:
            continue
        seen.add((found.scanner, found.bundle))
        known = probed.of_scanner(settings.state, found.scanner).series
        if any((one.series, one.bundle) == (found.name, found.bundle) for one in known):
            continue
        yield found


def _of_report(
    settings: Settings, journal: Journal, naming: Naming, report: Report
) -> Chosen | None:
    """The series of a report that stands; None for any other."""
    if (report.status, report.stage) != (Status.ANALYSED, Stage.FINAL) or report.bundle is None:
        return None
    key = journal.reports.series_of(report.report_id)
    row = None if key is None else journal.series.get(key)
    if key is None or row is None or row.state != "analysed":
        return None
    latest = journal.reports.latest(key, report.bundle.digest)
    if latest is None or latest.report_id != report.report_id:
        return None
    if policy.any_priors(settings) and policy.are_priors(
        settings, journal.series.senders(key.study)
    ):
        return None
    quality = kept.kept_record(settings.state, report.report_id, QUALITY, SeriesQuality)
    if quality is None or quality.scanner.maker == MAKER:
        return None
    return Chosen(key, naming.series(key), report, report.bundle.digest, quality.scanner)
