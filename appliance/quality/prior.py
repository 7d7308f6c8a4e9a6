"""What is known of scanners before a series of one of them is seen: the shipped prior. Pure.

Rules.
1. It gives spreads, never middles: two scanners differ in their middle, while what patients and
   planning add is much the same everywhere.
2. A row is pooled with it as if it had been measured on so many series more (`Prior.weight`).
3. Each figure has its origin (docs/watching.md, "The library of scanners"). The spreads are those
   of 13 series of one scanner; `python -m training.judge.spreads` measures on the public CTs what
   can be measured there: slopes, correlations and what a fault moves.
"""

from __future__ import annotations

from typing import Final

from appliance.watching.alarm import Statistic
from appliance.watching.row import Prior, Row

SHIPPED: Final = Prior(
    spreads={
        Statistic.NOISE: 0.165,  # of its logarithm
        Statistic.TEXTURE: 0.10,  # of its logarithm
        Statistic.SKIN: 0.10,  # of its logarithm
        Statistic.LUNG_EDGE: 0.18,  # of its logarithm
        Statistic.TISSUE: 5.7,  # HU
        Statistic.AIR: 11.0,  # HU
        Statistic.LUNG_SHARE: 0.24,  # of its logarithm
        Statistic.SCORES: 1.0,  # of its log odds
    }
)
FEWEST: Final = 20
"""A row that has learnt from fewer studies is no prior."""


def imported(row: Row, otherwise: Prior = SHIPPED) -> Prior:
    """The spreads of somebody else's row of such a scanner as a prior of the same weight; of what
    it does not say, those of `otherwise`."""
    own = {
        which: _pooled(one.n, one.m2, otherwise.spreads[which], otherwise.weight)
        for which, one in row.watched.items()
        if which in otherwise.spreads and one.n >= FEWEST
    }
    return Prior(spreads={**otherwise.spreads, **own}, weight=otherwise.weight)


def spread(n: int, m2: float, which: Statistic, prior: Prior) -> float:
    """SD of a statistic whose `n` learnt values have `m2` as sum of squares, pooled with the
    prior (rule 2)."""
    return _pooled(n, m2, prior.spreads[which], prior.weight)


def _pooled(n: int, m2: float, before: float, weight: float) -> float:
    freedom = max(0, n - 1)
    return float(((weight * before**2 + m2) / (weight + freedom)) ** 0.5)
