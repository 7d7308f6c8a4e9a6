"""How far one series is from what is usual on its scanner, and sums of that over series. Pure.

    VolumeQuality -> values      transformed, and judged given what explains them
    values learnt -> Usual       middle and spread, what is odd left out
    Usual, value  -> z           in spreads
    Side, z       -> Side        a sum over series (CUSUM), its start, and how far on average

Rules.
1. What is a ratio is judged by its logarithm, HU as they are. Noise is judged given the diameter of
   the body, tissue given contrast medium, with shipped slopes (NOISE_PER_MM, CONTRAST_HU); where
   what explains it is not known, noise is not judged, and contrast medium counts as half there.
2. The middle is the scanner's own, the spread pooled with the prior (quality/prior.py). z is that
   of a value yet to come: the error of the middle is in it (sqrt(1 + 1/n)).
3. Limits depend on how many values were learnt: LIMITS, from `python -m training.judge.streams
   --limits`. With the textbook's (3.5, k 0.5) a scanner in order alarms in 1 of 6 to 25 series.
4. A sum takes z cut at CUT, so that no single series alarms by it (Lucas and Crosier, robust CUSUM,
   Technometrics 1982); its allowance is K spreads, so it waits for changes of two and more.
5. Of the learning time what is more than ODD spreads from the median is left out of middle and
   spread. Where it is a tenth or more, or what is left is WIDE times wider than the prior says, the
   learning time is mixed: that is said, never hidden in a wide spread.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.quality.prior import spread
from appliance.watching.alarm import Statistic
from appliance.watching.quality import VolumeQuality
from appliance.watching.row import Prior, Side

NOISE_PER_MM: Final = 0.004
"""By how much the logarithm of the noise rises with each mm of water-equivalent diameter."""
DIAMETER_MM: Final = 300.0
"""At which noise is taken as it is."""
CONTRAST_HU: Final = 8.0
"""By how much contrast medium brightens the mode of soft tissue."""

K: Final = 1.0
CUT: Final = 3.0
LIMITS: Final[tuple[tuple[int, float, float], ...]] = (
    (5, 5.0, 7.0),
    (8, 4.8, 6.0),
    (10, 4.5, 5.5),
    (15, 4.2, 5.0),
)
"""From so many learnt values on: |z| of one series, and the sum over series, above which it is an
alarm. Of fewer nothing is judged."""
ODD: Final = 4.2
WIDE: Final = 2.6
"""Of 30 values, against a spread that is known to 12 degrees of freedom: exceeded by chance in one
of 2,000 (square root of F, 29 and 12)."""
ZERO: Final = Side()
MAD: Final = 1.4826
"""A Gaussian's SD in median absolute deviations."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual on a scanner, of one statistic: `n` values, their middle, and the pooled SD."""

    n: int
    mean: float
    m2: float
    sd: float
    odd: int = 0
    """Values of the learning time that were left out (rule 5)."""

    def z(self, value: float) -> float:
        """How far a value is from the middle, in spreads (rule 2)."""
        return (value - self.mean) / (self.sd * math.sqrt(1 + 1 / self.n))


def values(measured: VolumeQuality) -> dict[Statistic, float]:
    """What is judged of a volume; without what could not be measured (rule 1)."""
    noise = _log(measured.noise_hu)
    if noise is not None:
        wide = measured.diameter_mm
        noise = None if wide is None else noise - NOISE_PER_MM * (wide - DIAMETER_MM)
    tissue = measured.tissue_hu
    if tissue is not None:
        tissue -= CONTRAST_HU * {"yes": 1.0, "unknown": 0.5, "no": 0.0}[measured.contrast]
    found = {
        Statistic.NOISE: noise,
        Statistic.TEXTURE: _log(measured.texture_per_mm),
        Statistic.SKIN: _log(measured.skin_hu_per_mm),
        Statistic.LUNG_EDGE: _log(measured.lung_edge_hu_per_mm),
        Statistic.TISSUE: tissue,
        Statistic.AIR: measured.air_hu,
        Statistic.LUNG_SHARE: _log(measured.lung_share),
    }
    return {which: value for which, value in found.items() if value is not None}


def _log(value: float | None) -> float | None:
    """Of what is not above zero there is none: it could not be measured."""
    return math.log(value) if value is not None and value > 0 else None


def usual(learnt: Sequence[float], which: Statistic, prior: Prior) -> Usual:
    """What these values, one at least, say is usual (rule 5)."""
    kept = list(learnt)
    if len(learnt) >= LIMITS[0][0]:
        middle = statistics.median(learnt)
        robust = MAD * statistics.median(abs(value - middle) for value in learnt)
        most = ODD * spread(len(learnt), robust**2 * (len(learnt) - 1), which, prior)
        kept = [value for value in learnt if abs(value - middle) <= most]
    mean = math.fsum(kept) / len(kept)
    m2 = math.fsum((value - mean) ** 2 for value in kept)
    sd = spread(len(kept), m2, which, prior)
    return Usual(len(kept), mean, m2, sd, odd=len(learnt) - len(kept))


def mixed(found: Usual, which: Statistic, prior: Prior) -> bool:
    """Whether a whole learning time was not of one scanner and protocol (rule 5)."""
    many = 10 * found.odd >= found.n + found.odd and found.odd > 1
    return many or own(found) > WIDE * prior.spreads[which]


def own(found: Usual) -> float:
    """SD of the learnt values themselves, without the prior."""
    return math.sqrt(found.m2 / max(1, found.n - 1))


def limits(n: int) -> tuple[float, float] | None:
    """Of one series and of the sum, after `n` learnt values (rule 3); None of too few."""
    found = [(series, total) for least, series, total in LIMITS if n >= least]
    return found[-1] if found else None


def added(side: Side, step: float, away: float, at: datetime) -> Side:
    """A sum with one study more; `step` less than nothing takes from it, and at zero it starts
    anew. `away`: how many spreads the study is away, for the mean since the start."""
    total = side.sum + step
    if total <= 0:
        return ZERO
    return Side(sum=total, since=side.since or at, studies=side.studies + 1, away=side.away + away)


def summed(up: Side, down: Side, z: float, at: datetime) -> tuple[Side, Side]:
    """Both sums of a statistic whose z are about Gaussian (rule 4)."""
    cut = max(-CUT, min(CUT, z))
    return added(up, cut - K, z, at), added(down, -cut - K, z, at)
