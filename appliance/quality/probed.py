"""What implants say of a scanner: which of them were found, and the figures of many series. Pure.

Rules.
1. An implant is found by a finding whose centre lies within its radius, at least REACH_MM (the rule
   of LUNA16, Setio et al. 2017, with a least reach, as training.judge.froc has it). An implant is
   found once, by its best finding; further findings at it count neither way.
2. A finding that is no implant is `beside`. It is `extra` where it is no finding of the untouched
   series either, by the same reach: then the insertion caused it.
3. Series are what is independent: implants of one lie in the same noise. So an interval is Wilson's
   (results/share.py) for as many implants as the variance between series says that they are worth,
   with the t distribution for few series (Korn and Graubard 1998). A bootstrap over series has no
   width where all were found, which is what a good scanner shows.
4. Below FEW series that variance is not known, and each counts as one implant.
5. What is said is of one bundle, as it is or with one accepted tuning: others find other things.
6. What is said of a scanner is of the series since its last change (trial.change): those of before
   lie in other images. They are kept, and no figure has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.quality.trial import Setting
from appliance.report import Finding
from appliance.results.share import Z95, wilson
from appliance.watching.probe import SIZES_MM, OfSize, Performance, Probed, ProbedSeries, Share

REACH_MM: Final = 5.0
FEW: Final = 5
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ball:
    """An implant as the truth has it."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
    """Of the sphere of its volume."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of the implants of one altered series."""

    found: tuple[bool, ...]
    beside: int
    extra: int


def judged(
    findings: Sequence[Finding], implants: Sequence[Ball], untouched: Sequence[Finding]
) -> Judged:
    """Findings of the altered series against its implants (rule 1), and what else they are (rule
    2). `untouched`: what is found in the series without implants."""
    at = np.array([one.center_lps_mm for one in implants], np.float64).reshape(-1, 3)
    reach = np.maximum([one.diameter_mm / 2 for one in implants], REACH_MM)
    before = np.array([one.place_lps_mm for one in untouched], np.float64).reshape(-1, 3)
    near = np.maximum([(one.diameter_mm or 0.0) / 2 for one in untouched], REACH_MM)
    found = np.zeros(len(implants), np.bool_)
    beside = extra = 0
    for finding in sorted(findings, key=lambda one: (-one.score, one.place_lps_mm)):
        away = np.linalg.norm(at - finding.place_lps_mm, axis=1)
        away[away > reach] = np.inf
        if np.isfinite(away).any():
            found[int(np.argmin(away))] = True
            continue
        beside += 1
        extra += not (np.linalg.norm(before - finding.place_lps_mm, axis=1) <= near).any()
    return Judged(tuple(bool(one) for one in found), beside, extra)


def performance(series: Sequence[ProbedSeries], of: Setting) -> Performance | None:
    """The figures of one bundle, tuning and change (rules 5 and 6); None where no series of these
    has an implant."""
    same = [one for one in series if of.has(one) and one.found]
    if not same:
        return None
    classes = []
    for low, high in SIZES_MM:
        inside = [_of_class(one, low, high) for one in same]
        if any(count for _, count in inside):
            classes.append(OfSize(from_mm=low, below_mm=high, share=share(inside)))
    return Performance(
        bundle=of.bundle,
        tuning=of.tuning,
        series=len(same),
        sensitivity=share([(sum(one.found), len(one.found)) for one in same]),
        by_size=tuple(classes),
        extra_per_series=round(sum(one.extra for one in same) / len(same), 3),
        since=min(one.at for one in same),
        until=max(one.at for one in same),
    )


def newest(probed: Probed, change: datetime | None) -> Performance | None:
    """The figures of the bundle and tuning with which this scanner was probed last since `change`
    (trial.change); None where no series of these has an implant."""
    of = setting(probed, change)
    return None if of is None else performance(probed.series, of)


def setting(probed: Probed, change: datetime | None) -> Setting | None:
    """How implants were looked for last since `change`; None: not at all."""
    since = [one for one in probed.series if one.found and one.change == change]
    return Setting(since[-1].bundle, since[-1].tuning, change) if since else None


def _of_class(one: ProbedSeries, low: float, high: float | None) -> tuple[int, int]:
    """Found, and put in, of one class of size."""
    found = [
        seen
        for mm, seen in zip(one.sizes_mm, one.found, strict=True)
        if low <= mm and (high is None or mm < high)
    ]
    return sum(found), len(found)


def share(clusters: Sequence[tuple[int, int]]) -> Share:
    """(found, put in) of each series -> the share with its interval (rules 3 and 4). ValueError
    without an implant."""
    there = [one for one in clusters if one[1]]
    if not there:
        raise ValueError("a share needs an implant")
    found, count = np.array(there, np.float64).T
    n = float(count.sum())
    value = float(found.sum()) / n
    low, high = wilson(value, worth(found, count))
    return Share(value=round(value, 4), low=round(low, 4), high=round(high, 4), implants=round(n))


def worth(found: F64, count: F64) -> float:
    """How many independent implants those of these series [k] are worth, at most all of them."""
    k, n = len(count), float(count.sum())
    if k < FEW:
        return float(k)
    value = float(found.sum()) / n
    alone = value * (1 - value) / n
    between = float(((found - value * count) ** 2).sum()) * k / (k - 1) / n**2
    effect = max(1.0, between / alone) if alone > 0 else 1.0
    return min(n, n / effect * (Z95 / student(k - 1)) ** 2)


def student(degrees: int) -> float:
    """97.5 % quantile of Student's t, within .01 from 4 degrees of freedom on (Abramowitz and
    Stegun 26.7.5)."""
    z = Z95
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )
