"""A share and its interval, against scipy."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from appliance.results import share


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (15, 20), (7, 7), (1, 1), (930, 5247)])
def test_the_interval_is_that_of_the_books(hits: int, n: int) -> None:
    other = binomtest(hits, n).proportion_ci(method="wilson")
    value, interval = share.of(hits, n)
    assert value == hits / n
    assert interval == pytest.approx((other.low, other.high), abs=1e-12)


def test_of_no_case_there_is_no_share() -> None:
    assert share.of(0, 0) == (None, None)


def test_cases_need_not_be_a_whole_number() -> None:
    low, high = share.wilson(0.5, 10.5)
    assert share.wilson(0.5, 10) < (low, high)
    assert high < share.wilson(0.5, 10)[1]
