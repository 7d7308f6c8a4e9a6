"""Figures of one series against what is usual, and sums of that."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import numpy as np
import pytest

from appliance.quality import drift
from appliance.quality.prior import SHIPPED
from appliance.watching.alarm import Statistic
from appliance.watching.quality import VolumeQuality
from appliance.watching.row import Side

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
GOOD = VolumeQuality(
    noise_hu=20.0,
    texture_per_mm=0.4,
    skin_hu_per_mm=60.0,
    lung_edge_hu_per_mm=150.0,
    tissue_hu=50.0,
    air_hu=-990.0,
    lung_share=0.3,
    diameter_mm=300.0,
    contrast="no",
)


def test_ratios_are_judged_by_their_logarithm_and_hu_as_they_are() -> None:
    found = drift.values(GOOD)
    assert found[Statistic.NOISE] == pytest.approx(math.log(20))
    assert found[Statistic.LUNG_SHARE] == pytest.approx(math.log(0.3))
    assert (found[Statistic.TISSUE], found[Statistic.AIR]) == (50.0, -990.0)


def test_what_was_not_measured_is_not_judged() -> None:
    assert drift.values(VolumeQuality()) == {}
    none = VolumeQuality(noise_hu=0.0, lung_share=0.0, diameter_mm=300.0)
    assert drift.values(none) == {}, "the logarithm of nothing"


def test_noise_is_judged_given_the_diameter() -> None:
    wide = GOOD.model_copy(
        update={"diameter_mm": 400.0, "noise_hu": 20 * math.exp(100 * drift.NOISE_PER_MM)}
    )
    assert drift.values(wide)[Statistic.NOISE] == pytest.approx(math.log(20))
    unknown = GOOD.model_copy(update={"diameter_mm": None})
    assert Statistic.NOISE not in drift.values(unknown)


def test_tissue_is_judged_given_contrast_medium() -> None:
    bright = GOOD.model_copy(update={"contrast": "yes", "tissue_hu": 50 + drift.CONTRAST_HU})
    assert drift.values(bright)[Statistic.TISSUE] == pytest.approx(50)
    unknown = GOOD.model_copy(update={"contrast": "unknown"})
    assert drift.values(unknown)[Statistic.TISSUE] == pytest.approx(50 - drift.CONTRAST_HU / 2)


def test_a_spread_is_pooled_with_the_prior_and_z_has_the_error_of_the_middle() -> None:
    learnt = [0.0, 2.0] * 15
    found = drift.usual(learnt, Statistic.TISSUE, SHIPPED)
    sd = math.sqrt((12 * 5.7**2 + 30 * 1.0) / (12 + 29))
    assert (found.n, found.mean, found.odd) == (30, 1.0, 0)
    assert found.sd == pytest.approx(sd)
    assert found.z(11.0) == pytest.approx(10 / (sd * math.sqrt(1 + 1 / 30)))


def test_what_is_odd_in_the_learning_time_is_neither_middle_nor_spread() -> None:
    rng = np.random.default_rng(1)
    good = rng.normal(50, 5.7, 28).tolist()
    clean, dirty = (
        drift.usual(some, Statistic.TISSUE, SHIPPED) for some in (good, [150.0, *good, 150.0])
    )
    assert (dirty.odd, dirty.n) == (2, clean.n)
    assert (dirty.mean, dirty.sd) == (clean.mean, clean.sd)
    assert not drift.mixed(dirty, Statistic.TISSUE, SHIPPED)


@pytest.mark.parametrize("odd", [3, 10, 15, 20, 27])
@pytest.mark.parametrize("away", [7.0, 20.0])
def test_a_learning_time_that_is_mixed_says_so(odd: int, away: float) -> None:
    rng = np.random.default_rng(odd)
    some = rng.normal(50, 5.7, 30)
    some[:odd] += away * 5.7
    found = drift.usual(some.tolist(), Statistic.TISSUE, SHIPPED)
    assert drift.mixed(found, Statistic.TISSUE, SHIPPED)


def test_a_learning_time_of_one_kind_hardly_ever_does() -> None:
    rng = np.random.default_rng(2)
    said = 0
    for _ in range(500):
        some = (rng.standard_t(6, 30) * 5.7 / math.sqrt(1.5)).tolist()
        found = drift.usual(some, Statistic.TISSUE, SHIPPED)
        said += drift.mixed(found, Statistic.TISSUE, SHIPPED)
    assert said <= 2, "of 500, with tails of t with 6 degrees of freedom"


def test_limits_are_wider_after_few_values_and_none_of_too_few() -> None:
    assert drift.limits(4) is None
    assert drift.limits(5) == (5.0, 7.0)
    assert drift.limits(14) == (4.5, 5.5)
    assert drift.limits(30) == drift.limits(1000) == (4.2, 5.0)


def test_a_sum_starts_with_the_first_series_after_zero_and_tells_the_mean() -> None:
    days = [AT.replace(day=day) for day in range(1, 8)]
    up = down = Side()
    for at, z in zip(days, [0.5, -3.0, 2.0, 2.5, 3.5, 9.0, 2.5], strict=True):
        up, down = drift.summed(up, down, z, at)
    assert up.since == days[2]
    assert up.studies == 5
    assert up.sum == pytest.approx(1.0 + 1.5 + 2.0 + 2.0 + 1.5), "9 counts as 3"
    assert up.away / up.studies == pytest.approx((2.0 + 2.5 + 3.5 + 9.0 + 2.5) / 5)
    assert down == Side()


def test_no_single_series_alarms_by_a_sum() -> None:
    up, _ = drift.summed(Side(), Side(), 100.0, AT)
    _, total = drift.limits(30) or (0.0, 0.0)
    assert up.sum < total
