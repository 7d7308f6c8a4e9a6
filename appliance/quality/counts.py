"""What comes out of a series, as counts: sums of log likelihood ratios. Pure.

    Outputs -> counts        events out of so many, of each statistic that is one
    learnt  -> rate          what is usual, and how sure that is
    count   -> steps         what it says for a change upward and downward, for the sums of drift.py

Rules.
1. A count is no Gaussian: most series have no finding or one. So a sum is one of log likelihood
   ratios (Page, Biometrika 1954; Moustakides, Annals of Statistics 1986) of a change that matters
   against the usual: findings a series doubled or halved (negative binomial), the odds of a score
   above the threshold doubled or halved (beta-binomial), the odds of an abstention four-fold.
2. Patients differ, so counts of different patients differ more than chance says: SHAPE and
   OVERDISPERSION.
3. While the usual is known exactly, a sum above h comes at most once in exp(h) series (Lorden,
   Annals of Mathematical Statistics 1971). It is known from some 30 series: so the usual is taken
   GUARD standard errors nearer to the change.
4. A series that was not analysed, or has a finding that is unsure, is an abstention; what it found
   is counted only where it was analysed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from appliance.watching.alarm import Statistic
from appliance.watching.quality import Outputs

LIMIT: Final = 8.3
"""exp(8.3) is 4,000."""
FEWEST: Final = 15
"""Of fewer learnt studies no count is judged."""
SHAPE: Final = 1.0
"""Of the negative binomial of findings: variance m + m^2 / SHAPE."""
OVERDISPERSION: Final = 0.1
"""Intra-class correlation of the scores of one series, whether they are above the threshold."""
GUARD: Final = 1.5
LEAST: Final = 0.05
"""A usual of none is taken for so many findings a series; from there none can be fewer."""
LEAST_SHARE: Final = 0.002
"""A share that is so near to none or all cannot fall or rise."""
FACTOR: Final = {Statistic.FINDINGS: 2.0, Statistic.ABOVE: 2.0, Statistic.ABSTAINED: 4.0}


@dataclass(frozen=True, slots=True)
class Count:
    """`events` out of `of`; of findings, which have no bound, `of` is one: a series."""

    events: int
    of: int


@dataclass(frozen=True, slots=True)
class Steps:
    """What a count adds to both sums; `away`: how many SD it is from the usual."""

    up: float
    down: float
    away: float


def counts(outputs: Outputs) -> dict[Statistic, Count]:
    """What is counted of a series (rule 4)."""
    abstained = not outputs.analysed or outputs.unsure > 0
    found = {Statistic.ABSTAINED: Count(int(abstained), 1)}
    if outputs.analysed:
        found[Statistic.FINDINGS] = Count(outputs.findings, 1)
        if outputs.scored:
            found[Statistic.ABOVE] = Count(min(outputs.above, outputs.scored), outputs.scored)
    return found


def learnt(mean: float, weight: float, count: Count) -> tuple[float, float]:
    """Mean and weight of the events of the learning time with one count more."""
    total = weight + count.of
    return mean + (count.events - mean * count.of) / total, total


def steps(which: Statistic, count: Count, n: int, mean: float, weight: float) -> Steps:
    """What a count says, where `n` learnt series had `mean` events out of each of `weight`."""
    if which is Statistic.FINDINGS:
        return _of_findings(count.events, n, mean)
    within = weight / n
    share = (mean * weight + 0.5) / (weight + 1)
    rho = OVERDISPERSION if which is Statistic.ABOVE else 0.0
    error = math.sqrt(share * (1 - share) * (1 + (within - 1) * rho) / weight)
    upper, lower = share + GUARD * error, share - GUARD * error
    factor, up, down = FACTOR[which], 0.0, 0.0
    if upper < 1 - LEAST_SHARE:
        up = _share(count, _odds(upper, factor), rho) - _share(count, upper, rho)
    if lower > LEAST_SHARE:
        down = _share(count, _odds(lower, 1 / factor), rho) - _share(count, lower, rho)
    sd = math.sqrt(count.of * share * (1 - share) * (1 + (count.of - 1) * rho))
    return Steps(up, down, (count.events - count.of * share) / sd)


def _of_findings(events: int, n: int, mean: float) -> Steps:
    usual = max(LEAST, mean)
    sd = math.sqrt(usual + usual**2 / SHAPE)
    error = GUARD * sd / math.sqrt(n)
    upper, lower = usual + error, usual - error
    factor, down = FACTOR[Statistic.FINDINGS], 0.0
    up = _negative_binomial(events, factor * upper) - _negative_binomial(events, upper)
    if lower > LEAST:
        down = _negative_binomial(events, lower / factor) - _negative_binomial(events, lower)
    return Steps(up, down, (events - usual) / sd)


def _odds(share: float, factor: float) -> float:
    odds = factor * share / (1 - share)
    return odds / (1 + odds)


def _negative_binomial(events: int, mean: float) -> float:
    """Log likelihood, without what does not depend on the mean."""
    return events * math.log(mean / (mean + SHAPE)) - SHAPE * math.log1p(mean / SHAPE)


def _share(count: Count, share: float, rho: float) -> float:
    """Log likelihood of a beta-binomial (rho 0: a binomial), without what does not depend on the
    share."""
    others = count.of - count.events
    if rho == 0:
        return count.events * math.log(share) + others * math.log1p(-share)
    size = (1 - rho) / rho
    a, b = share * size, (1 - share) * size
    return math.lgamma(a + count.events) - math.lgamma(a) + math.lgamma(b + others) - math.lgamma(b)
