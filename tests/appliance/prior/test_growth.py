"""How much a finding changed, against the error of measuring it twice."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from appliance.comparison import Sizes
from appliance.prior.growth import UNMEASURED, Row, Seen, change
from appliance.prior.repeated import MEASURED

NARROW = Row((0.0, 100.0), "solid", "same", volume_percent=5.0, axis_mm=0.3)


def seen(volume: float | None = 500.0, mean: float = 10.0, **more: Any) -> Seen:
    density = more.pop("density", "solid")
    sizes = Sizes(volume_mm3=volume, mean_axis_mm=mean, density=density)
    return Seen(sizes, more.pop("mass", False), more.pop("slices_mm", 1.25), **more)


def changed(
    then: Seen, now: Seen, days: int | None = 365, rows=(NARROW,), same_kernel=True, **more: Any
):
    found = change(then, now, days, same_kernel=same_kernel, rows=rows, **more)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("volume", "verdict"),
    [(500, "within_error"), (620, "within_error"), (630, "larger"), (370, "smaller")],
)
def test_a_quarter_of_the_volume_is_the_least_that_counts(volume, verdict):
    found = changed(seen(500), seen(volume))
    assert found.verdict == verdict
    assert found.decided_by == "volume"
    assert found.limit_percent == 25


def test_where_measuring_twice_errs_by_more_that_is_the_limit():
    wide = replace(NARROW, volume_percent=20.0)
    found = changed(seen(500), seen(700), rows=(wide,))
    assert found.verdict == "within_error"
    assert found.limit_percent == pytest.approx(48.0, abs=0.1)
    assert found.difference_percent == 40


def test_another_kernel_takes_the_row_of_another_kernel():
    other = replace(NARROW, kernel="other", volume_percent=20.0)
    rows = (NARROW, other)
    assert changed(seen(500), seen(700), rows=rows).verdict == "larger"
    assert changed(seen(500), seen(700), rows=rows, same_kernel=False).verdict == "within_error"


@pytest.mark.parametrize("rows", [(), MEASURED])
def test_a_third_more_of_two_kernels_that_could_not_be_blurred_alike_is_no_growth(rows):
    """So much comes of the kernel alone, and the rows are of images that were blurred alike."""
    then, now = seen(500), seen(667, mean=11.0)
    found = changed(then, now, rows=rows, same_kernel=False, blurred=False)
    assert found.verdict == "within_error"
    assert found.doubling_days is None
    twice = changed(then, seen(1000, mean=12.6), rows=rows, same_kernel=False, blurred=False)
    assert twice.verdict == "larger"
    small = changed(seen(113, 6.0), seen(200, 7.3), rows=rows, same_kernel=False, blurred=False)
    assert small.verdict == "within_error", "of a small one a kernel changes a larger part"


def test_a_size_that_nobody_measured_twice_has_the_wide_limit():
    found = changed(seen(500), seen(700), rows=())
    limit = 100 * math.expm1(1.96 * UNMEASURED.volume_percent / 100)
    assert found.limit_percent == pytest.approx(limit, abs=0.1)


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        ((9.0, 7.0), (10.0, 8.0), "larger"),
        ((8.2, 4.0), (10.0, 8.0), "within_error"),
        ((9.0, 7.0), (13.6, 8.0), "within_error"),
        ((9.0, None), (10.0, 8.0), "larger"),
    ],
)
def test_of_a_body_that_runs_along_something_in_either_exam_the_wide_limit_holds(
    then, now, verdict
):
    def one(volume: float, axes: tuple[float, float | None]) -> Seen:
        whole = seen(volume)
        lengths = {"long_axis_mm": axes[0], "short_axis_mm": axes[1]}
        return replace(whole, sizes=whole.sizes.model_copy(update=lengths))

    assert changed(one(500, then), one(705, now)).verdict == verdict


def test_a_size_between_no_rows_takes_the_nearest_and_not_less_than_the_wide_limit():
    wide = replace(NARROW, size_mm=(12.0, 20.0), volume_percent=30.0)
    assert changed(seen(500), seen(700), rows=(wide,)).limit_percent == pytest.approx(80, abs=0.1)
    narrow = replace(wide, volume_percent=5.0)
    found = changed(seen(500), seen(700), rows=(narrow, replace(NARROW, size_mm=(90.0, 99.0))))
    assert found.limit_percent == changed(seen(500), seen(700), rows=()).limit_percent


def test_of_two_densities_the_one_that_errs_more_gives_the_limit():
    rows = tuple(
        replace(NARROW, density=density, volume_percent=sd)
        for density, sd in (("solid", 5.0), ("ground_glass", 20.0))
    )
    found = changed(seen(500), seen(700, density="ground_glass"), rows=rows)
    assert found.verdict == "within_error"


@pytest.mark.parametrize("thick", [(2.6, 1.25), (1.25, 5.0)])
def test_in_thick_slices_the_mean_axis_decides(thick):
    then, now = (
        seen(v, m, slices_mm=s) for v, m, s in zip((500, 900), (10, 11), thick, strict=True)
    )
    found = changed(then, now)
    assert found.decided_by == "mean_axis"
    assert found.verdict == "within_error"
    assert found.difference_percent is None
    assert found.rate_per_year is None


@pytest.mark.parametrize(
    ("mean", "verdict"), [(11.5, "within_error"), (11.6, "larger"), (8.4, "smaller")]
)
def test_one_and_a_half_millimetres_are_the_least_that_counts(mean, verdict):
    found = changed(seen(None), seen(None, mean))
    assert found.verdict == verdict
    assert found.limit_mm == 1.5


def test_masses_are_compared_by_their_mean_axis_alone():
    found = changed(seen(20000, 34, mass=True), seen(40000, 42, mass=True))
    assert (found.decided_by, found.verdict) == ("mean_axis", "larger")
    assert found.difference_percent is None
    assert found.over_25_percent is None
    assert found.over_1_5_mm is True


def test_of_a_nodule_that_became_a_mass_no_change_is_said():
    found = changed(seen(9000, 26), seen(20000, 34, mass=True))
    assert found.verdict is None
    assert found.difference_mm is None


def test_what_was_not_measured_has_no_change():
    nothing = Seen(Sizes(), mass=False, slices_mm=1.0)
    assert change(seen(), nothing, 365, same_kernel=True) is None


def test_a_rate_has_its_interval_and_a_doubling_time_where_that_lies_above_0():
    found = changed(seen(500), seen(1000, 12.6), days=365)
    assert found.rate_per_year.value == pytest.approx(math.log(2), rel=0.01)
    assert found.rate_per_year.low < found.rate_per_year.value < found.rate_per_year.high
    assert found.doubling_days.value == pytest.approx(365, rel=0.01)
    assert found.doubling_days.low < 365 < found.doubling_days.high
    assert found.doubling_not_under_days is None


def test_without_sure_growth_it_is_said_what_the_doubling_time_is_not_under():
    found = changed(seen(500), seen(520), days=365)
    assert found.doubling_days is None
    assert found.doubling_not_under_days == pytest.approx(
        math.log(2) / (math.log(1.04) + 1.96 * 0.19) * 365, rel=0.01
    )


@pytest.mark.parametrize(("percent", "sd"), [(3.0, 0.19), (30.0, 0.30)])
def test_the_interval_of_a_rate_is_of_its_row_and_of_what_no_row_has(percent, sd):
    rows = [replace(NARROW, volume_percent=percent)]
    rate = changed(seen(500), seen(1000, 12.6), days=1461, rows=rows).rate_per_year
    assert rate.high - rate.low == pytest.approx(2 * 1.96 * sd / 4, rel=0.01)


def test_the_smaller_a_body_is_the_more_its_border_makes_of_the_rate() -> None:
    rate = changed(seen(65, 5.0), seen(65, 5.0), days=1461).rate_per_year
    assert rate is not None
    assert rate.high - rate.low == pytest.approx(2 * 1.96 * (3 * 0.5 / 5.0) / 4, rel=0.01)


def test_what_shrinks_has_no_doubling_time_at_all():
    found = changed(seen(1000, 12.6), seen(500))
    assert found.doubling_days is None
    assert found.doubling_not_under_days is None
    assert found.over_1_5_mm is None


@pytest.mark.parametrize("days", [None, 29])
def test_under_30_days_or_without_dates_no_rate_is_said(days):
    found = changed(seen(500), seen(1000, 12.6), days=days)
    assert found.verdict == "larger"
    assert found.rate_per_year is None
    assert found.doubling_days is None
    assert found.doubling_not_under_days is None


def test_thresholds_of_growth_are_said_of_what_is_larger_alone():
    assert changed(seen(500), seen(1000, 12.6)).over_25_percent is True
    within = changed(seen(500), seen(600, 11.8))
    assert (within.over_1_5_mm, within.over_25_percent) == (None, None)


def test_of_a_part_solid_one_it_is_said_that_its_solid_part_was_not_measured():
    assert changed(seen(500), seen(700, density="part_solid")).solid_part_not_measured
    assert not changed(seen(500), seen(700)).solid_part_not_measured


def test_what_was_measured_with_what_ships_speaks_of_every_size_density_and_kernel():
    cells = {(row.size_mm, row.density, row.kernel) for row in MEASURED}
    assert len(cells) == len(MEASURED) == 4 * 3 * 2
    assert all(row.n >= 30 for row in MEASURED)
    sizes = sorted({row.size_mm for row in MEASURED})
    assert [low for low, _ in sizes[1:]] == [high for _, high in sizes[:-1]]
