"""The logistic fit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.judge.calibration import fit, isotonic, sure_from


def test_the_logistic_fit_finds_the_figures_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20000, 2))
    p = 1 / (1 + np.exp(-(1.5 * x[:, 0] - 0.7 * x[:, 1] + 0.3)))
    w = fit(x, (rng.random(20000) < p).astype(float))
    assert w == pytest.approx([1.5, -0.7, 0.3], abs=0.08)


def test_the_isotonic_fit_pools_what_falls_and_leaves_what_rises() -> None:
    scores = np.array([0.4, 0.1, 0.3, 0.2, 0.5])
    right = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    assert isotonic(scores, right).tolist() == [1.0, 0.0, 0.5, 0.5, 1.0]


def test_the_isotonic_fit_says_one_share_of_equal_scores() -> None:
    assert isotonic(np.full(4, 0.7), np.array([1.0, 0.0, 1.0, 1.0])).tolist() == [0.75] * 4


def test_a_score_is_sure_from_where_nine_in_ten_are_right() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(40000)
    right = (rng.random(40000) < scores).astype(float)
    assert sure_from(scores, right, 0.9) == pytest.approx(0.9, abs=0.03)


def test_no_score_is_sure_where_no_nine_in_ten_are_right() -> None:
    assert sure_from(np.array([0.2, 0.8]), np.array([0.0, 0.0]), 0.9) == 1.0
