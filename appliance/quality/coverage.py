"""The bounds of certainty of single images, and how often they hold on this device. Pure.

    scores of either class, alpha -> ConformalBounds       split conformal prediction, by class
    what readers said             -> LocalCoverage, a bundle   how many images lay within them here

Rules.
1. With n images of a class the bound is its k-th score, counted from its own end, k = ceil((n + 1)
   (1 - alpha)). A new image of that class that comes as those did lies within it with probability
   1 - alpha or more, over draws of both, whatever the network does (Vovk, Gammerman and Shafer,
   Algorithmic Learning in a Random World, 2005, sections 2.2 and 4.5). Where k exceeds n no score
   is beyond the bound. Bounds are rounded outwards.
2. The promise needs images that come as those of the fit. It breaks with the hospital, and no
   figure of the images alone tells for sure. So coverage is counted here, from images alone whose
   class a reader has said.
3. Counted are reports that a reader said to have read to the end, with a verdict on every finding,
   scored under the bounds of their bundle. Verdicts without that act do not count: they are of
   images that scored high, and of a class these are not a fair sample. Of a series that was
   reported again by the same bundle the report that was read last counts.
4. An image is of the class with the finding where its finding was accepted or something in it was
   marked as missed, else of the class without. A report of several images in which something was
   missed is left out: what is kept does not tell which image scored what.
5. Nothing is shown under LEAST images of each class. The interval is the score interval of 95 %
   (results/share.py); it takes images as independent.
6. From then on the bounds that these images would give are proposed, for the next bundle. They are
   exported and never applied: a bundle is signed, and what stands in a report does not depend on
   what the device saw before.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pydantic import ConfigDict, Field

from appliance.report import NOTICE, ConformalBounds, Digest, Record
from appliance.results import share
from appliance.results.feedback import Counting, Feedback, Read, ReportScores, counting
from appliance.results.share import Interval

SCHEMA: Final = "scanside.coverage/1"
LEAST: Final = 50
"""Images of each class."""
BEYOND: Final = (
    "Sure and unsure were fitted on images of another hospital. Whether they hold here, only those "
    "that readers here read to the end can tell, and these may differ from the others."
)
_STEPS: Final = 1_000_000
"""Bounds are multiples of its inverse."""


class ClassCoverage(Record):
    """Of one class, of images that were read to the end."""

    n: int = Field(ge=0)
    within: int | None = None
    """How many lay within the bound of their class; None, as all that follows, under LEAST."""
    share: float | None = None
    share_95: Interval | None = None
    other: int | None = None
    """How many were surely called the other class."""
    unsure: int | None = None


class LocalCoverage(Record):
    """How often the bounds of one bundle hold on this device."""

    bundle: Digest
    bounds: ConformalBounds
    promised: float
    """The share of each class that should lie within its bound."""
    reports: int
    """Read to the end: what the figures are of."""
    left_out: int
    """Read to the end, but not counted (rules 3 and 4)."""
    least: int = LEAST
    with_finding: ClassCoverage
    without_finding: ClassCoverage
    proposed: ConformalBounds | None
    """Bounds that the images read here would give; None under LEAST of either class."""
    beyond: str = BEYOND


class CoverageExport(Record):
    """scanside.coverage/1: how often certainty holds here, and which bounds are proposed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )
    schema_: Literal["scanside.coverage/1"] = Field(default=SCHEMA, alias="schema")
    notice: str = NOTICE
    at: datetime
    appliance: str
    bundles: tuple[LocalCoverage, ...]


def bounds(
    with_finding: Sequence[float], without_finding: Sequence[float], alpha: float
) -> ConformalBounds:
    """Scores of images of either class, none of which the network learned from -> bounds (rule 1).

    ValueError where a class has no image."""
    if not with_finding or not without_finding:
        raise ValueError("bounds need images of both classes")
    high, low = sorted(with_finding, reverse=True), sorted(without_finding)
    k_with, k_without = _rank(len(high), alpha), _rank(len(low), alpha)
    lowest = high[k_with - 1] if k_with <= len(high) else 0.0
    highest = low[k_without - 1] if k_without <= len(low) else 1.0
    return ConformalBounds(
        alpha=alpha,
        with_from=math.floor(lowest * _STEPS) / _STEPS,
        without_to=math.ceil(highest * _STEPS) / _STEPS,
        n_with=len(high),
        n_without=len(low),
    )


def _rank(n: int, alpha: float) -> int:
    """k of rule 1; the last decimals of (n + 1) (1 - alpha) are no reason for one more."""
    return math.ceil(round((n + 1) * (1 - alpha), 9))


@dataclass(frozen=True, slots=True)
class Image:
    """One image, its score, and what it shows."""

    score: float
    finding: bool


def of_class(
    images: Iterable[Image], bounds: ConformalBounds, threshold: float, *, finding: bool
) -> ClassCoverage:
    """How many images of a class lie within its bound, are surely called the other, or are unsure,
    whatever their number."""
    scores = [one.score for one in images if one.finding is finding]
    n = len(scores)
    named_with = [s >= bounds.with_from for s in scores]
    named_without = [s <= bounds.without_to for s in scores]
    called = [s >= threshold for s in scores]
    sure = [a != b and a is c for a, b, c in zip(named_with, named_without, called, strict=True)]
    within = sum(named_with if finding else named_without)
    other = sum(yes and c is not finding for yes, c in zip(sure, called, strict=True))
    return counted(n, within, other, n - sum(sure))


def counted(n: int, within: int, other: int, unsure: int) -> ClassCoverage:
    """The counts of a class with the share of them and its interval."""
    value, ends = share.of(within, n)
    return ClassCoverage(n=n, within=within, share=value, share_95=ends, other=other, unsure=unsure)


def of_bundles(acts: Iterable[Feedback], reads: Iterable[Read]) -> tuple[LocalCoverage, ...]:
    """All that was ever said, in order -> each bundle with bounds, in order of digest."""
    said: dict[uuid.UUID, list[Feedback]] = {}
    for act in acts:
        said.setdefault(act.report_id, []).append(act)
    last: dict[uuid.UUID, Read] = {}
    for read in reads:
        last.pop(read.report_id, None)
        last[read.report_id] = read
    by_bundle: dict[str, dict[object, tuple[ReportScores, Counting]]] = {}
    for report_id, read in last.items():
        scores = read.scores
        if not read.done or read.bundle is None or scores is None or scores.certainty is None:
            continue
        counts = counting(said.get(report_id, ()))
        by_bundle.setdefault(read.bundle, {})[read.series or report_id] = (scores, counts)
    return tuple(_of_bundle(digest, [*by_bundle[digest].values()]) for digest in sorted(by_bundle))


def _of_bundle(digest: str, reports: Sequence[tuple[ReportScores, Counting]]) -> LocalCoverage:
    found = [_images(scores, counts) for scores, counts in reports]
    images = [one for some in found if some is not None for one in some]
    scores, _ = reports[-1]
    fitted = scores.certainty
    if fitted is None:  # of_bundles takes none of these
        raise ValueError("a report without bounds")
    classes = [of_class(images, fitted, scores.threshold, finding=yes) for yes in (True, False)]
    enough = min(one.n for one in classes) >= LEAST
    shown = classes if enough else [ClassCoverage(n=one.n) for one in classes]
    return LocalCoverage(
        bundle=digest,
        bounds=fitted,
        promised=1 - fitted.alpha,
        reports=sum(some is not None for some in found),
        left_out=sum(some is None for some in found),
        with_finding=shown[0],
        without_finding=shown[1],
        proposed=_proposed(images, fitted.alpha) if enough else None,
    )


def _proposed(images: Sequence[Image], alpha: float) -> ConformalBounds:
    """Rule 6."""
    with_finding, without = (
        [one.score for one in images if one.finding is yes] for yes in (True, False)
    )
    return bounds(with_finding, without, alpha)


def _images(scores: ReportScores, counts: Counting) -> list[Image] | None:
    """The images of a report with their class; None where it does not count (rules 3 and 4)."""
    judged = [act for act in counts.findings.values() if act.score is not None]
    if len(judged) != scores.findings:
        return None
    if not counts.missed:
        below = [Image(score, finding=False) for score in scores.below]
        return [*below, *(Image(act.score or 0.0, act.verdict == "accept") for act in judged)]
    if scores.findings + len(scores.below) != 1:
        return None
    return [
        Image(score, finding=True) for score in (*scores.below, *(a.score or 0 for a in judged))
    ]
