"""What is known of scanners before a series of one of them is seen: the shipped prior. Pure.

Rules.
1. It gives spreads, never middles: two scanners differ in their middle, while what patients and
   planning add is much the same everywhere.
2. A row is pooled with it as if it had been measured on so many series more (`Prior.weight`).
3. Each figure has its origin (docs/watching/library.md, "The prior"). The spreads are those
   within a scanner over 13 real series; `python -m training.judge.spreads` measures on the public
   CTs what can be measured there: bounds from above, slopes, and what a fault moves.
"""

from __future__ import annotations

from typing import Final

from appliance.watching.alarm import Statistic
from appliance.watching.row import Prior

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


def spread(n: int, m2: float, which: Statistic, prior: Prior) -> float:
    """SD of a statistic whose `n` learnt values have `m2` as sum of squares, pooled with the
    prior (rule 2)."""
    before, freedom = prior.spreads[which], max(0, n - 1)
    return float(((prior.weight * before**2 + m2) / (prior.weight + freedom)) ** 0.5)
