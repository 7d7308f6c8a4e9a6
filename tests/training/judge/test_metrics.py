"""Figures against cases counted by hand and, where scipy has the same figure, against scipy."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage, optimize, spatial, stats

from training.judge.metrics import (
    agreement,
    auc,
    auc_estimate,
    auc_or_nan,
    cuts,
    dice,
    ece,
    estimate,
    fit_temperature,
    hausdorff_mm,
    keeps_sensitivity,
    most_accurate,
    out_of_fold,
    paired,
    rates,
    reliability,
    resampled,
    wilson,
    youden,
)

LABELS, SCORES = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]


def test_auc_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(0)
    y, s = rng.random(200) < 0.3, rng.integers(0, 20, 200)
    u = stats.mannwhitneyu(s[y], s[~y]).statistic
    assert auc(y, s) == pytest.approx(u / (y.sum() * (~y).sum()))


def test_the_draws_of_two_cases_are_three_means() -> None:
    values = np.array([0.0, 1.0])
    draws = resampled(lambda pick: float(values[pick].mean()), 2)
    assert sorted(set(draws)) == [0, 0.5, 1]
    assert np.mean(draws == 0.5) == pytest.approx(0.5, abs=0.06)


def test_groups_are_drawn_whole() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0, 0.0])
    draws = resampled(lambda pick: float(values[pick].sum()), 5, groups=["a", "b", "b", "a", "a"])
    assert sorted(set(draws)) == [0, 2, 4]


def test_an_interval_holds_95_percent_of_the_draws() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = estimate(lambda pick: float(values[pick].mean()), 400, samples=2000)
    assert found.value == pytest.approx(values.mean())
    reach = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - reach, values.mean() + reach), abs=0.01
    )


def test_draws_of_one_class_are_left_out() -> None:
    assert len(resampled(lambda pick: auc_or_nan(pick, pick), 2, samples=100)) < 80
    found = auc_estimate([0, 1], [0.2, 0.9])
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_the_same_model_twice_differs_by_nothing() -> None:
    found = paired(auc_or_nan, LABELS, SCORES, SCORES)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_two_models_are_compared_on_the_same_draws() -> None:
    rng = np.random.default_rng(1)
    y = rng.random(300) < 0.4
    first = y + rng.normal(0, 1, 300)
    second = first + 0.15 * y  # a little better on the very same cases
    found = paired(auc_or_nan, y, first, second)
    assert found.value == pytest.approx(auc(y, second) - auc(y, first))
    alone = auc_estimate(y, first)
    assert found.high - found.low < (alone.high - alone.low) / 3
    assert found.low > 0
    assert found.p == pytest.approx(2 / 1001)
    assert paired(auc_or_nan, y, second, first).value == pytest.approx(-found.value)


@pytest.mark.parametrize(("k", "n"), [(0, 8), (7, 9), (50, 50), (930, 5247)])
def test_the_interval_of_a_proportion_is_wilsons(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    found = wilson(k, n)
    assert (found.value, found.low, found.high) == pytest.approx(
        (k / n, expected.low, expected.high), abs=1e-9
    )


def test_rates_of_seven_calls() -> None:
    found = rates([1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0])
    assert found.sensitivity == wilson(2, 3)
    assert found.specificity == wilson(3, 4)
    assert found.accuracy == wilson(5, 7)
    assert math.isnan(rates([0], [0]).sensitivity.value)


def test_cuts_lie_between_the_scores() -> None:
    thresholds, sensitivity, specificity = cuts(LABELS, SCORES)
    assert thresholds.tolist() == pytest.approx([-np.inf, 0.225, 0.375, 0.6, np.inf])
    assert sensitivity.tolist() == [1, 1, 0.5, 0.5, 0]
    assert specificity.tolist() == [0, 0.5, 0.5, 1, 1]
    thresholds, sensitivity, _ = cuts([0, 1, 1], [0.5, 0.5, 0.7])
    assert (thresholds.tolist(), sensitivity.tolist()) == (
        pytest.approx([-np.inf, 0.6, np.inf]),
        [1, 0.5, 0],
    )
    with pytest.raises(ValueError, match="both classes"):
        cuts([1, 1], [0.1, 0.2])


def test_thresholds_by_three_rules() -> None:
    labels, scores = [0, 0, 0, 0, 1, 0, 1, 1], [1, 2, 3, 4, 5, 6, 7, 8]
    # 4.5: 3/3 and 4/5 are right; 6.5: 2/3 and 5/5, as many calls are right
    assert youden(labels, scores) == 4.5
    assert most_accurate(labels, scores) == 4.5
    assert most_accurate([*labels, 0], [*scores, 6.2]) == pytest.approx(6.6)
    assert youden([*labels, 0], [*scores, 6.2]) == pytest.approx(4.5)
    assert keeps_sensitivity(labels, scores) == 4.5
    assert keeps_sensitivity(labels, scores, 2 / 3) == 6.5
    assert keeps_sensitivity(LABELS, SCORES, 0.5) == pytest.approx(0.6)


def test_each_fold_is_judged_by_the_threshold_of_the_others() -> None:
    called, thresholds = out_of_fold([0, 1, 0, 1], [1, 3, 3, 5], ["a", "a", "b", "b"])
    assert thresholds == {"a": 4, "b": 2}
    assert called.tolist() == [False, False, True, True]
    called, _ = out_of_fold([0, 1, 0, 1], [1, 3, 3, 5], [0, 0, 1, 1], partial(most_accurate))
    assert called.tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="two folds"):
        out_of_fold([0, 1], [1, 2], [0, 0])


def test_the_temperature_is_the_most_likely_one() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(0, 4, 4000)
    y = rng.random(4000) < 1 / (1 + np.exp(-z / 2.5))

    def unlikely(t: float) -> float:
        return float(np.logaddexp(0, np.where(y, -z, z) / t).mean())

    best = optimize.minimize_scalar(unlikely, bounds=(0.5, 10), method="bounded").x
    assert fit_temperature(z, y) == pytest.approx(best, rel=1e-4)
    assert fit_temperature(np.column_stack([z * 0 + 7, z + 7]), y) == pytest.approx(best, rel=1e-4)
    assert fit_temperature(z, y) == pytest.approx(2.5, rel=0.1)


def test_the_temperature_of_three_classes() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(0, 2, (2000, 3))
    y = np.array([rng.choice(3, p=p) for p in np.exp(z * 1.7) / np.exp(z * 1.7).sum(1)[:, None]])
    assert fit_temperature(z, y) == pytest.approx(1 / 1.7, rel=0.1)


def test_classes_without_an_error_end_at_the_bound() -> None:
    assert fit_temperature([-3.0, 4.0], [0, 1]) == pytest.approx(0.05)
    assert fit_temperature([-3.0, 4.0], [1, 0]) == pytest.approx(20)
    assert fit_temperature([-3e4, 4e4], [0, 1]) == pytest.approx(0.05)  # no overflow


def test_calibration_error_of_three_cases() -> None:
    labels, p = [1, 0, 0], [0.95, 0.95, 0.15]
    assert reliability(labels, p, bins=10) == [
        (1, pytest.approx(0.15), 0.0),
        (2, pytest.approx(0.95), 0.5),
    ]
    assert ece(labels, p, bins=10) == pytest.approx(0.15 / 3 + 0.45 * 2 / 3)
    assert ece([1, 0], [1.0, 0.0]) == 0
    assert reliability([1, 0], [1.0, 0.95], bins=10) == [(2, pytest.approx(0.975), 0.5)]


def test_dice_of_masks() -> None:
    a, b = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    assert dice(a, b) == 1
    a[0, :3], b[0, 1:] = True, True
    assert dice(a, b) == pytest.approx(2 * 2 / 6)
    assert dice(a, np.zeros_like(a)) == 0


def test_the_distance_of_two_voxels_is_in_millimetres() -> None:
    a, b = np.zeros((8, 9, 10), bool), np.zeros((8, 9, 10), bool)
    a[1, 2, 3] = b[4, 6, 3] = True
    assert hausdorff_mm(a, b, (2.0, 0.5, 0.7)) == pytest.approx(math.hypot(6, 2))
    assert hausdorff_mm(a, a, (2.0, 0.5, 0.7)) == 0


def test_the_distance_to_nothing_is_endless_and_between_nothings_none() -> None:
    empty, full = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    assert hausdorff_mm(empty, full, (1, 1)) == hausdorff_mm(full, empty, (1, 1)) == math.inf
    assert hausdorff_mm(empty, empty, (1, 1)) == 0


def test_the_distance_is_the_larger_of_both_ways() -> None:
    a, b = np.zeros((1, 120), bool), np.zeros((1, 120), bool)
    a[0, :10], b[0, :110] = True, True
    # all of a lies on b; 95 % of b's 110 voxels lie at most index .95 * 109 = 103.55 away from 0
    assert hausdorff_mm(a, b, (1, 0.5)) == pytest.approx((103.55 - 9) * 0.5)
    assert hausdorff_mm(b, a, (1, 0.5)) == pytest.approx((103.55 - 9) * 0.5)
    assert hausdorff_mm(a, b, (1, 0.5), percent=100) == pytest.approx(100 * 0.5)


def test_only_surfaces_count() -> None:
    full = np.ones((9, 9), bool)
    hollow = full.copy()
    hollow[1:-1, 1:-1] = False
    assert hausdorff_mm(full, hollow, (1, 1), percent=100) == 0


def test_the_distance_of_two_blobs_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(5)
    spacing = (2.5, 0.7, 0.8)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(12, 24, 20)), 2) > 0.02 for _ in range(2))
    points = []
    for mask in (a, b):
        within = np.pad(mask, 1)
        faces = [np.roll(within, s, axis) for axis in range(3) for s in (-1, 1)]
        rim = within & ~np.logical_and.reduce(faces)
        points.append(np.argwhere(rim) * spacing)
    away = spatial.distance.cdist(*points)
    expected = max(np.percentile(away.min(1), 95), np.percentile(away.min(0), 95))
    assert hausdorff_mm(a, b, spacing) == pytest.approx(expected)
    far = max(
        spatial.distance.directed_hausdorff(points[0], points[1])[0],
        spatial.distance.directed_hausdorff(points[1], points[0])[0],
    )
    assert hausdorff_mm(a, b, spacing, percent=100) == pytest.approx(far)


def test_errors_of_three_diameters() -> None:
    found = agreement([11, 9, 22], [10, 10, 20])
    assert (found.n, found.mean, found.median) == (3, pytest.approx(2 / 3), 1)
    assert (found.mean_absolute, found.median_absolute) == (pytest.approx(4 / 3), 1)
    sd = math.sqrt(((1 / 3) ** 2 + (5 / 3) ** 2 + (4 / 3) ** 2) / 2)
    assert (found.sd, found.low, found.high) == pytest.approx(
        (sd, 2 / 3 - 1.96 * sd, 2 / 3 + 1.96 * sd), rel=1e-4
    )


def test_relative_errors_are_parts_of_the_truth() -> None:
    found = agreement([11, 9, 22], [10, 10, 20], relative=True)
    assert (found.mean, found.median_absolute) == pytest.approx((0.1 / 3, 0.1))


def test_one_case_has_no_limits_and_none_is_refused() -> None:
    assert math.isnan(agreement([3.0], [2.0]).high)
    with pytest.raises(ValueError, match="a case"):
        agreement([], [])
