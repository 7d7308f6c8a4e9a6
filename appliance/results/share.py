"""A share, and how sure it is. Pure.

Rule. The interval is the score interval of 95 % (Wilson, J Am Stat Assoc 1927;22:209-212), as
Brown, Cai and DasGupta advise (Stat Sci 2001;16:101-133). It takes cases as independent; who knows
that they are not says how many independent ones they are worth, which need be no whole number.
"""

from __future__ import annotations

import math
from typing import Final

Z95: Final = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
Interval = tuple[float, float]


def wilson(share: float, n: float) -> Interval:
    """The interval of a share of n cases, more than 0."""
    z = Z95**2 / n
    middle = (share + z / 2) / (1 + z)
    reach = Z95 / (1 + z) * math.sqrt(share * (1 - share) / n + z / (4 * n))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def of(hits: int, n: int) -> tuple[float, Interval] | tuple[None, None]:
    """A share with its interval; nothing of no case."""
    return (hits / n, wilson(hits / n, n)) if n else (None, None)
