"""Hits and free-response curves on cases that can be counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from training.judge.froc import RATES, Marks, Places, froc, rows_of, shares, verdicts_of


def marks(pairs: Sequence[tuple[float, int]], nodules: int) -> Marks:
    return Marks(
        np.array([p[0] for p in pairs], np.float64),
        np.array([p[1] for p in pairs], np.int64),
        nodules,
    )


def along_x(*pairs: tuple[float, float]) -> Places:
    return Places(np.array([[x, 0.0, 0.0] for x, _ in pairs]), np.array([d for _, d in pairs]))


def places(*xs: float) -> list[list[float]]:
    return [[x, 0.0, 0.0] for x in xs]


def test_a_hit_lies_within_the_radius_but_5_mm_are_always_near_enough() -> None:
    truth = along_x((0, 4), (100, 30))
    found = verdicts_of(places(4.9, 5.1, 114.9, 115.1), [4, 3, 2, 1], truth)
    assert found.tolist() == [0, -1, 1, -1]
    strict = verdicts_of(places(4.9, 1.9, 114.9), [4, 3, 2], truth, least_mm=0)
    assert strict.tolist() == [-1, 0, 1]


def test_a_nodule_is_hit_once_by_the_best_finding() -> None:
    found = verdicts_of(places(1, 2, 3), [0.5, 0.9, 0.7], along_x((0, 10)))
    assert found.tolist() == [-2, 0, -2]


def test_a_finding_between_two_nodules_hits_the_nearer() -> None:
    assert verdicts_of(places(7), [1.0], along_x((0, 20), (10, 20))).tolist() == [1]


def test_a_finding_beside_an_ignored_lesion_is_neither() -> None:
    ignored = along_x((50, 12))
    found = verdicts_of(places(58.9, 59.1, 50), [3, 2, 1], along_x((50, 2)), ignored)
    assert found.tolist() == [-2, -1, 0]
    assert verdicts_of(places(1, 2), [1, 1], Places(np.zeros((0, 3)), np.zeros(0))).tolist() == [
        -1,
        -1,
    ]


def test_each_rate_gets_the_sensitivity_that_a_threshold_reaches() -> None:
    scan = marks([(0.9, 0), (0.8, -1), (0.75, -2), (0.7, 1), (0.6, -1)], 2)
    curve = froc([scan], (0, 1, 2, 8))
    assert [s.value for s in curve.sensitivity] == [0.5, 1, 1, 1]
    assert curve.thresholds == (0.9, 0.7, 0.6, 0.6)
    assert curve.cpm.value == pytest.approx(3.5 / 4)


def test_equal_scores_are_taken_together_or_not_at_all() -> None:
    scan = marks([(0.9, -1), (0.9, 0), (0.5, 1)], 2)
    curve = froc([scan], (0, 1))
    assert [s.value for s in curve.sensitivity] == [0, 1]
    assert curve.thresholds == (np.inf, 0.5)


def test_scans_are_pooled_and_rates_are_a_scan() -> None:
    hit, false = marks([(0.9, 0)], 1), marks([(0.8, -1), (0.3, 0)], 1)
    nothing = marks([], 2)
    curve = froc([hit, false, nothing, nothing, *[marks([], 0)] * 4], RATES)
    # one false finding in eight scans is the first rate
    assert [s.value for s in curve.sensitivity] == [2 / 6] * 7
    curve = froc([hit, false, nothing, nothing, *[marks([], 0)] * 3], RATES)
    assert [s.value for s in curve.sensitivity] == [1 / 6] + [2 / 6] * 6
    assert curve.cpm.value == pytest.approx(13 / 42)


def test_between_thresholds_the_line_of_luna16_may_be_read() -> None:
    scan = marks([(0.9, 0), (0.8, -1), (0.7, -1), (0.6, 1)], 4)
    # (0, 1/4), (0.5, 1/4), (1, 1/4) and (1, 2/4)
    curve = froc([scan, marks([], 0)], (0.25, 0.5, 0.75, 1, 8), interpolate=True)
    assert [s.value for s in curve.sensitivity] == pytest.approx([0.25, 0.25, 0.25, 0.5, 0.5])
    tied = marks([(0.9, 0), (0.6, -1), (0.6, -1), (0.6, 1)], 4)
    curve = froc([tied, marks([], 0)], (0.25, 0.5), interpolate=True)
    assert [s.value for s in curve.sensitivity] == pytest.approx([0.25 + 0.25 / 4, 0.375])


def test_intervals_draw_whole_scans() -> None:
    good, bad = marks([(0.9, 0), (0.8, 1)], 2), marks([(0.7, -1)], 2)
    curve = froc([good, bad], (1,))
    first = curve.sensitivity[0]
    assert (first.value, first.low, first.high) == (0.5, 0, 1)
    same = froc([good, good, good], (1,)).cpm
    assert (same.value, same.low, same.high) == (1, 1, 1)
    # of 20 scans half are good: the share of the good is binomial, sd sqrt(.25 / 20) = 0.112
    wide = froc([good, bad] * 10, (1,)).cpm
    assert (wide.low, wide.high) == pytest.approx((0.5 - 0.22, 0.5 + 0.22), abs=0.05)
    assert wide == froc([good, bad] * 10, (1,)).cpm


def test_a_draw_has_its_own_nodules() -> None:
    one, three = marks([(0.9, 0)], 1), marks([], 3)
    first = froc([one, three], (1,)).sensitivity[0]
    assert (first.value, first.low, first.high) == (0.25, 0, 1)
    # draws of nothing but the scan without a nodule have no sensitivity
    first = froc([one, marks([], 0)], (1,)).sensitivity[0]
    assert (first.value, first.low, first.high) == (1, 1, 1)


def test_cpm_is_the_mean_over_the_rates_in_every_draw() -> None:
    found = froc([marks([(0.8, -1), (0.7, 0)], 1)], (0, 1)).cpm
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_scans_without_nodules_or_findings_are_no_trouble() -> None:
    empty = froc([marks([], 0)], (1,))
    assert empty.sensitivity[0].value == 0
    with pytest.raises(ValueError, match="a scan"):
        froc([])


def test_a_report_has_no_infinite_threshold() -> None:
    rows = rows_of(froc([marks([(0.9, -1), (0.5, 0)], 1)], (0, 1)))
    assert [r["threshold"] for r in rows] == [None, 0.5]
    assert [r["sensitivity"] for r in rows] == [0, 1]
    assert all(low <= r["sensitivity"] <= high for r in rows for low, high in [r["interval"]])


def test_each_class_counts_its_own_nodules() -> None:
    found = shares([True, False, True, True], ["a", "a", "b", "a"])
    assert (found["a"]["found"], found["a"]["of"], found["a"]["sensitivity"]) == (2, 3, 0.6667)
    assert (found["b"]["found"], found["b"]["of"]) == (1, 1)
    low, high = found["b"]["interval"]  # one of one says little
    assert low < 0.3
    assert high == 1
