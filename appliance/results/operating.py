"""What another threshold would have done, by what readers said: of each bundle the sensitivity on
their marks and the false positives a scan. Pure; it proposes and changes nothing.

Rules
1. Counted are scans read to the end: those of which every finding was judged, and that kept what
   was scored. Of a series that was reported again by the same bundle the last report counts that
   anybody judged. A scan without a finding is counted only where a reader marked something in it.
2. A mark is an accepted finding or a missed one. Sensitivity at a threshold is the share of all
   marks that scored so high. A missed mark at which nothing was scored is found at no threshold.
3. At and above the threshold of the bundle the false positives are the rejected findings that
   scored so high. Below it also every candidate counts that scored so high and that no mark names.
   Nobody looked at those, and some may be nodules: the figure is an upper bound.
4. Findings of a network with another threshold, such as masses, are on no curve: what they scored
   says nothing about this threshold, and what scored below theirs is not kept. They are counted
   apart, at the threshold that they have: accepted ones and rejected ones.
5. What neither the device nor a reader marked is in no figure (BEYOND says so in words). The true
   sensitivity is lower.
6. Intervals of 95 %. Sensitivity: the score interval (results/share.py); it takes marks of one scan
   as independent. False positives: percentile bootstrap over scans (Efron and Tibshirani, An
   Introduction to the Bootstrap, 1993, chapter 13) with a fixed seed; none under LEAST_SCANS, where
   it is too narrow.
7. A proposal is the highest threshold of the grid that loses no mark which is found now and has
   fewer false positives. There is none under LEAST_SCANS scans or LEAST_MARKS marks.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from appliance.report import NOTICE, Digest, Record
from appliance.results import share
from appliance.results.feedback import Feedback, ReportScores, counting
from appliance.results.share import Interval

SCHEMA: Final = "scanside.feedback/1"
LEAST_SCANS: Final = 20
LEAST_MARKS: Final = 20
REPLICATES: Final = 1000
SEED: Final = 1927
GRID: Final = tuple(n / 20 for n in range(1, 20))
BEYOND: Final = (
    "A nodule that neither the device nor a reader marked is in no figure: the true sensitivity is "
    "lower. Below the present threshold nobody looked at the candidates, so that their false "
    "positives are an upper bound."
)


class Point(Record):
    """What one threshold would have done."""

    threshold: float
    found: int
    """Marks that scored so high."""
    sensitivity: float | None
    """None where there is no mark."""
    sensitivity_95: Interval | None
    fp_per_scan: float
    fp_per_scan_95: Interval | None
    upper_bound: bool
    """Whether the false positives are one (rule 3)."""


class Operating(Record):
    """The curve of one bundle."""

    bundle: Digest
    threshold: float
    """The present one."""
    scans: int
    """Read to the end: what the figures are of."""
    scans_begun: int
    """Of which something was said, but not of every finding, or without scores."""
    marks: int
    missed: int
    """How many of the marks the device did not report."""
    missed_unscored: int
    """How many of these nothing was scored at."""
    off_curve: int
    """Accepted findings of another threshold (rule 4)."""
    off_curve_rejected: int
    """Rejected ones: false positives at the threshold that they have."""
    points: tuple[Point, ...]
    """By rising threshold, with the present one among them."""
    proposed: float | None
    beyond: str = BEYOND


class FeedbackExport(Record):
    """scanside.feedback/1: all that readers said, and what follows of it. No comment, no name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )
    schema_: Literal["scanside.feedback/1"] = Field(default=SCHEMA, alias="schema")
    notice: str = NOTICE
    at: datetime
    appliance: str
    feedback: tuple[Feedback, ...]
    """In order; of one finding the last counts that no undo names."""
    operating: tuple[Operating, ...]


@dataclass(frozen=True, slots=True)
class _Scan:
    """One report that was read to the end."""

    threshold: float
    marks: tuple[float, ...]
    """Score of each; -1 where nothing was scored."""
    missed: int
    false: tuple[float, ...]
    """Score of every rejected finding, and of every candidate that no mark names."""
    off_curve: int
    off_curve_rejected: int


def of_bundles(acts: Iterable[Feedback]) -> tuple[Operating, ...]:
    """All that was ever said, in order -> a curve for each bundle, in order of digest."""
    reports: dict[uuid.UUID, list[Feedback]] = {}
    for act in acts:
        reports.setdefault(act.report_id, []).append(act)
    latest: dict[tuple[str | None, object], list[Feedback]] = {}
    for report_id, said in reports.items():
        first = said[0]
        latest[first.bundle, first.series or report_id] = said
    bundles = sorted({bundle for bundle, _ in latest if bundle is not None})
    return tuple(
        found
        for bundle in bundles
        if (found := _curve(bundle, [said for (of, _), said in latest.items() if of == bundle]))
    )


def _curve(bundle: str, reports: Sequence[Sequence[Feedback]]) -> Operating | None:
    """None where no scan was read to the end."""
    scans = [scan for said in reports if (scan := _scan(said)) is not None]
    if not scans:
        return None
    present = scans[-1].threshold
    scans = [scan for scan in scans if scan.threshold == present]
    marks = np.asarray([score for scan in scans for score in scan.marks])
    grid = np.asarray(sorted({*GRID, present}))
    false = np.asarray([[sum(s >= t for s in scan.false) for t in grid] for scan in scans], float)
    intervals = _bootstrap(false)
    points = tuple(
        _point(float(t), present, marks, float(false[:, n].mean()), intervals[n])
        for n, t in enumerate(grid)
    )
    return Operating(
        bundle=bundle,
        threshold=present,
        scans=len(scans),
        scans_begun=len(reports) - len(scans),
        marks=len(marks),
        missed=sum(scan.missed for scan in scans),
        missed_unscored=int(np.count_nonzero(marks < 0)),
        off_curve=sum(scan.off_curve for scan in scans),
        off_curve_rejected=sum(scan.off_curve_rejected for scan in scans),
        points=points,
        proposed=_proposed(points, present, len(scans), len(marks)),
    )


def _scan(said: Sequence[Feedback]) -> _Scan | None:
    """None where it was not read to the end, or what was scored is not known (rule 1)."""
    counts = counting(said)
    scores = next((act.scores for act in said if act.scores is not None), None)
    if scores is None or len(counts.findings) != scores.findings:
        return None
    if not counts.findings and not counts.missed:
        return None
    judged = [act for act in counts.findings.values() if act.score is not None]
    accepted = [act.score or 0.0 for act in judged if act.verdict == "accept"]
    rejected = [act.score or 0.0 for act in judged if act.verdict == "reject"]
    missed = [-1.0 if act.score is None else act.score for act in counts.missed]
    apart = [act.verdict for act in counts.findings.values() if act.score is None]
    return _Scan(
        threshold=scores.threshold,
        marks=(*accepted, *missed),
        missed=len(missed),
        false=(*rejected, *_unnamed(scores, missed)),
        off_curve=apart.count("accept"),
        off_curve_rejected=apart.count("reject"),
    )


def _unnamed(scores: ReportScores, missed: Sequence[float]) -> list[float]:
    """The candidates below the threshold without those that a missed mark names."""
    left = list(scores.below)
    for score in missed:
        if score in left:
            left.remove(score)
    return left


def _point(
    threshold: float,
    present: float,
    marks: NDArray[np.float64],
    false: float,
    interval: Interval | None,
) -> Point:
    found = int(np.count_nonzero(marks >= threshold))
    sensitivity, sensitivity_95 = share.of(found, len(marks))
    return Point(
        threshold=threshold,
        found=found,
        sensitivity=sensitivity,
        sensitivity_95=sensitivity_95,
        fp_per_scan=false,
        fp_per_scan_95=interval,
        upper_bound=threshold < present,
    )


def _proposed(points: Sequence[Point], present: float, scans: int, marks: int) -> float | None:
    """Rule 7."""
    if scans < LEAST_SCANS or marks < LEAST_MARKS:
        return None
    now = next(point for point in points if point.threshold == present)
    better = [
        point.threshold
        for point in points
        if point.threshold > present
        and point.found == now.found
        and point.fp_per_scan < now.fp_per_scan
    ]
    return max(better, default=None)


def _bootstrap(values: NDArray[np.float64]) -> list[Interval | None]:
    """Of figures [scans, thresholds] the interval of each mean over scans (rule 6)."""
    scans, columns = values.shape
    if scans < LEAST_SCANS:
        return [None] * columns
    random = np.random.default_rng(SEED)
    means = np.empty((REPLICATES, columns))
    for n in range(REPLICATES):  # one at a time: 10,000 scans need no table of all draws
        means[n] = np.bincount(random.integers(scans, size=scans), minlength=scans) @ values / scans
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
