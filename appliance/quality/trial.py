"""Whether a tuning finds more: candidates on the same implants of the same series. Pure.

Rules.
1. A trial has SERIES series with IMPLANTS implants each, fixed before any of them is analysed. It
   is judged once, when all of them are there: who looked after each series and stopped when it
   pleased would propose by chance.
2. What is compared is paired: the same implants in the same pixels, with and without the tuning. A
   series gives one difference, because implants of one series lie in the same noise.
3. The interval of the mean difference is that of the means of random subsets of the series
   (Hartigan 1969): exact for differences that are symmetric about their mean, whatever their
   shape. The subsets are always the same. A rise is an interval above 0, at the level of its step
   in Holm's procedure (1979) over all candidates, which together err in ALPHA of trials.
4. Proposed is the candidate of the greatest rise (of equal ones the weakest) of those whose
   findings that are no implant are not more than without it. What they are nobody knows without
   labels: a patient's own nodules are among them, so that fewer is no merit by itself.
5. A bundle, as it is or with an accepted tuning, has a trial at its first series on a scanner, and
   another AGAIN series after the last one ended. Between them series are probed without tunings,
   which costs a third.
6. When the library raises an alarm of the scanner the trial begins anew, for what was found before
   was found on another one. An alarm beside one that is open is the same change, and so is all that
   follows what a person said of them, until the next alarm. Changes are told apart by the date
   that their alarm names, which is asked for equality alone: a clock may go back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.watching.probe import Probed, ProbedSeries, Trial, Tuned
from appliance.watching.proposal import Proposal
from appliance.watching.row import Row
from appliance.watching.scanner import Scanner

SERIES: Final = 20
IMPLANTS: Final = 10
AGAIN: Final = 100
CANDIDATES_MM: Final = (0.4, 0.6, 0.8, 1.0)
"""SD of the op `soften` that each trial tries."""
ALPHA: Final = 0.05
SUBSETS: Final = 8192
"""Of the series: 51 lie beyond the limit of the first step."""
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rise:
    """How much more is found with a candidate."""

    value: float
    low: float
    high: float
    is_rise: bool
    """Whether the interval, at its level, lies above 0."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a trial is of: a series of another one is no part of it."""

    bundle: str
    tuning: str | None = None
    """The accepted one."""
    change: datetime | None = None
    """Of the scanner, after which it came (rule 6)."""

    def has(self, one: ProbedSeries | Trial) -> bool:
        """Whether a series or a trial is of it."""
        return (one.bundle, one.tuning, one.change) == (self.bundle, self.tuning, self.change)


def change(row: Row | None, probed: Probed) -> datetime | None:
    """The change after which the next series of a scanner comes; None: before any (rule 6). row: of
    the library, as it is now."""
    last = next((one.change for one in reversed(probed.series) if one.change is not None), None)
    known = [] if row is None else [one.since for one in row.alarms] or list(row.changes)
    return last if last in known or not known else known[-1]


def number(probed: Probed, of: Setting) -> int | None:
    """Of which trial the next series of this setting is a part, from 0; None: of none (rule 5)."""
    trials = sum(of.has(one) for one in probed.trials)
    if not trials:
        return 0
    series = [one.trial for one in probed.series if of.has(one)]
    rest = next((n for n, which in enumerate(reversed(series)) if which is not None), AGAIN)
    under_way = trials in series
    return trials if under_way or rest >= AGAIN else None


def ended(probed: Probed, of: Setting, at: datetime) -> Trial | None:
    """The trial that is under way, judged; None while it has fewer than SERIES series."""
    which = sum(of.has(one) for one in probed.trials)
    tried = [one for one in probed.series if of.has(one) and one.trial == which]
    if len(tried) < SERIES:
        return None
    proposal = proposed(probed.scanner, tried[:SERIES], at)
    return Trial(
        bundle=of.bundle,
        tuning=of.tuning,
        change=of.change,
        at=at,
        series=SERIES,
        proposal=proposal,
    )


def proposed(scanner: Scanner, tried: Sequence[ProbedSeries], at: datetime) -> Proposal | None:
    """The candidate that is better, by rules 3 and 4; None where none is. All series are of one
    bundle and have the same candidates."""
    columns = list(zip(*(one.tuned for one in tried), strict=True))
    found = rises([_differences(tried, column) for column in columns])
    beside = sum(one.beside for one in tried)
    better = [
        (rise, column)
        for rise, column in zip(found, columns, strict=True)
        if rise.is_rise and sum(one.beside for one in column) <= beside
    ]
    if not better:
        return None
    rise, column = max(better, key=lambda one: (one[0].value, -one[1][0].soften_mm))
    implants = sum(len(one.sizes_mm) for one in tried)
    return Proposal(
        scanner=scanner,
        bundle=tried[0].bundle,
        at=at,
        soften_mm=column[0].soften_mm,
        series=len(tried),
        implants=implants,
        sensitivity=round(sum(sum(one.found) for one in tried) / implants, 4),
        tuned=round(sum(sum(one.found) for one in column) / implants, 4),
        rise_low=round(rise.low, 4),
        rise_high=round(rise.high, 4),
        beside=round(beside / len(tried), 3),
        beside_tuned=round(sum(one.beside for one in column) / len(tried), 3),
    )


def _differences(tried: Sequence[ProbedSeries], column: Sequence[Tuned]) -> F64:
    """Of each series: the share found with the tuning less the share without."""
    return np.array(
        [
            (sum(tuned.found) - sum(one.found)) / len(one.found)
            for one, tuned in zip(tried, column, strict=True)
        ],
        np.float64,
    )


def rises(candidates: Sequence[F64], alpha: float = ALPHA) -> tuple[Rise, ...]:
    """Differences [series] of each candidate -> how much more it finds, by Holm's procedure: the
    most certain one is judged at alpha / m, the next at alpha / (m - 1), until one is none."""
    means = [subset_means(one) for one in candidates]
    doubts = [float(np.mean(one <= 0)) for one in means]
    out: list[Rise | None] = [None] * len(means)
    going = True
    for step, i in enumerate(np.argsort(doubts, kind="stable").tolist()):
        level = alpha / (len(means) - step)
        low, high = np.quantile(means[i], [level / 2, 1 - level / 2], method="lower").tolist()
        going = going and doubts[i] <= level / 2
        out[i] = Rise(float(candidates[i].mean()), low, high, going)
    return tuple(one for one in out if one is not None)


def subset_means(values: F64) -> F64:
    """The mean of each of SUBSETS subsets of values [n], of which each holds half of them."""
    chosen = _subsets(len(values))
    means: F64 = chosen @ values / chosen.sum(axis=1)
    return np.round(means, 12)


@lru_cache(maxsize=8)
def _subsets(count: int) -> F64:
    """Subsets of so many values, each in by chance and none empty: [SUBSETS, count] of 0 and 1."""
    rng = np.random.default_rng([1969, count])
    chosen = rng.random((2 * SUBSETS, count)) < 0.5
    return np.asarray(chosen[chosen.any(axis=1)][:SUBSETS], np.float64)
