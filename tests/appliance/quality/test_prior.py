"""The shipped prior, and a row that learns beside it."""

from __future__ import annotations

import pytest

from appliance.quality.prior import SHIPPED, spread
from appliance.watching.alarm import Statistic


def test_a_row_takes_over_from_the_prior_as_it_learns() -> None:
    own = 10.0
    found = [spread(n, (n - 1) * own**2, Statistic.TISSUE, SHIPPED) for n in (1, 5, 30, 1000)]
    assert found[0] == SHIPPED.spreads[Statistic.TISSUE]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(own, rel=0.01)
