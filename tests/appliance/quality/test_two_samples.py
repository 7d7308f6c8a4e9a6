"""Kolmogorov and Smirnov, beside scipy, which no device has."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from appliance.quality.two_samples import chance, distance


@pytest.mark.parametrize("moved", [0.0, 0.3, 0.6, 1.2])
@pytest.mark.parametrize(("m", "n"), [(50, 200), (20, 31), (7, 7)])
def test_it_says_what_scipy_says(moved: float, m: int, n: int) -> None:
    rng = np.random.default_rng(m + n)
    one, other = rng.normal(moved, 1, m).tolist(), rng.normal(0, 1, n).tolist()
    found = distance(one, other)
    truth = ks_2samp(one, other, method="exact")
    assert found == pytest.approx(truth.statistic, abs=1e-12)
    assert chance(found, m, n) == pytest.approx(truth.pvalue, rel=1e-6, abs=1e-12)


def test_equal_values_make_it_conservative() -> None:
    assert distance([1.0, 1.0, 2.0], [1.0, 1.0, 2.0]) == 0
    assert chance(0.0, 3, 3) == 1
    assert distance([0.0] * 50, [1.0] * 200) == 1


def test_a_sample_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        distance([], [1.0])


def test_by_chance_it_is_as_rare_as_it_says() -> None:
    rng = np.random.default_rng(3)
    rare = 0
    for _ in range(400):
        one, other = rng.random(30).tolist(), rng.random(60).tolist()
        rare += chance(distance(one, other), 30, 60) <= 0.1
    assert 20 <= rare <= 56, "of 400, at most a tenth and not many fewer"
