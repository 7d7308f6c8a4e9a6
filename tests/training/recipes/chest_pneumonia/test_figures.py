"""Figures out of fold: every image by a network that left it out, one threshold for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.errors import RunError  # noqa: E402
from training.recipes.chest_pneumonia.figures import (  # noqa: E402
    against,
    calibrated,
    compared,
    figures,
    keep,
    of_logits,
    threshold_of,
)
from training.recipes.chest_pneumonia.pneumonia_mnist import (  # noqa: E402
    FOLDS,
)


def test_every_image_is_judged_by_the_network_that_left_it_out(as_set: Any, made_up: Any) -> None:
    data = as_set(*made_up(60))
    judges = [lambda x, f=f: np.full(len(x), float(f), np.float32) for f in range(FOLDS)]
    _, logits = figures(data, judges)  # type: ignore[arg-type]
    assert all(np.array_equal(values, data.folds) for values in logits.values())


def test_figures_of_a_network_that_knows(as_set: Any, made_up: Any) -> None:
    data = as_set(*made_up(60))
    right = np.where(data.labels == 1, 2.0, -2.0) + np.linspace(0, 1, 60)
    blind = np.zeros(60)
    found = of_logits(data.labels, data.folds, data.groups, {"plain": right, "soft": blind})
    assert found["auc"] == 1
    assert found["acc"][0] == found["sensitivity"][0] == found["specificity"][0] == 1
    assert found["copies"]["soft"]["auc"] == 0.5
    assert found["auc_of_copies"] == 0.75


def test_the_threshold_bears_the_shifted_copies_and_comes_from_other_folds() -> None:
    labels = np.array([0, 1] * 50)
    plain = np.where(labels == 1, 1.0, -1.0)
    bright = plain + 1.5  # what is well looks like 0.5 there
    assert threshold_of(labels, {"plain": plain}) == 0
    assert threshold_of(labels, {"plain": plain, "bright": bright}) == 0.75
    folds = np.arange(100) // 20
    spoiled = np.where(folds == 0, plain + 9, plain)
    found = of_logits(labels, folds, np.arange(100), {"plain": spoiled})
    assert found["specificity"][0] == pytest.approx(0.8), "fold 0 had no say in its own threshold"


def test_the_score_is_the_probability_where_half_are_ill() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.8).astype(np.int64)
    logits = rng.normal(np.where(labels == 1, 1.0, -1.0), 1.0)  # its log likelihood ratio is 2 z
    scale, bias, threshold = calibrated(labels, {"plain": logits})
    assert scale == pytest.approx(2, abs=0.1)
    assert bias == pytest.approx(0, abs=0.1)
    assert threshold == pytest.approx(0.5, abs=0.1)


def test_the_better_of_two_runs_is_named_and_other_folds_are_refused(
    as_set: Any, made_up: Any, tmp_path: Path
) -> None:
    data = as_set(*made_up(80))
    rng = np.random.default_rng(0)
    names = ("plain", "alike", "soft")
    good = {n: data.labels + rng.normal(0, 0.2, 80) for n in names}
    poor = {n: data.labels + rng.normal(0, 2.0, 80) for n in names}
    gain = compared(data.labels, data.groups, poor, good)["plain"]
    assert gain["low"] > 0
    keep(tmp_path / "good.npz", data, good)
    keep(tmp_path / "poor.npz", data, poor)
    assert against(tmp_path / "good.npz", tmp_path / "poor.npz")["plain"] == gain
    keep(tmp_path / "other.npz", replace(data, folds=data.folds[::-1]), poor)
    with pytest.raises(RunError, match="other folds"):
        against(tmp_path / "good.npz", tmp_path / "other.npz")
    with pytest.raises(RunError, match="not there"):
        against(tmp_path / "good.npz", tmp_path / "none.npz")
