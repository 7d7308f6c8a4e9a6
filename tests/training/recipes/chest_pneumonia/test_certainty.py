"""The bounds of certainty: what a double learns from, and coverage that no fold flatters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.errors import RunError
from training.recipes.chest_pneumonia import certainty
from training.recipes.chest_pneumonia.double import apart
from training.recipes.chest_pneumonia.pneumonia_mnist import Radiographs

ALPHA = 0.1


def drawn(seed: int, n: int = 600) -> tuple[Any, Any, Any]:
    """Labels, folds and logits of made-up images, three in four ill."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.75).astype(np.int64)
    return labels, rng.integers(0, 5, n), rng.normal(0, 1, n) + 3 * labels - 1.5


def test_a_double_learns_from_no_picture_that_is_like_one_of_val() -> None:
    groups = np.array([0, 1, 2, 1, 4, 4])
    blank = np.zeros(6, np.int64)
    data = Radiographs(np.zeros((6, 28, 28), np.uint8), blank, groups, blank)
    rows, val = apart(data, 4)
    assert (rows.tolist(), val.tolist()) == ([0, 1, 2, 3], [4, 5])
    rows, val = apart(data, 3)
    assert (rows.tolist(), val.tolist()) == ([0, 2], [3, 4, 5])


def test_coverage_is_that_of_images_that_the_bounds_have_not_seen() -> None:
    labels, folds, logits = drawn(1)
    scores = certainty.scored(labels, {"plain": logits})["plain"]
    found = certainty.cross_fitted(scores, scores, labels, folds, 0.5, ALPHA)
    assert sum(one.n for one in found.values()) == len(labels)
    for one in found.values():
        assert one.share is not None
        assert abs(one.share - (1 - ALPHA)) < 4 * np.sqrt(ALPHA * (1 - ALPHA) / one.n)
        assert one.other is not None
        assert one.other <= one.n - (one.within or 0)


def test_a_fold_does_not_fit_its_own_bounds() -> None:
    """One fold scores far below all others: held against bounds of its own it would be covered."""
    labels, folds, logits = drawn(2)
    odd = np.where(folds == 0, logits - 20, logits)
    scores = 1 / (1 + np.exp(-odd))
    found = certainty.cross_fitted(scores, scores, labels, folds, 0.5, ALPHA)["with the finding"]
    lost = int((labels[folds == 0] == 1).sum())
    assert found.within is not None
    assert found.n - found.within >= lost


def test_another_exposure_takes_the_promise_away() -> None:
    labels, folds, logits = drawn(3)
    scores = certainty.scored(labels, {"plain": logits, "dark": logits - 2})
    args = (scores["plain"], labels, folds, 0.5, ALPHA)
    dark = certainty.cross_fitted(scores["dark"], *args)["with the finding"]
    assert dark.share is not None
    assert dark.share < 0.75
    said = certainty.table({"dark": {"with the finding": dark}}, ALPHA)
    assert f"{dark.share:.3f}" in said.splitlines()[1]


def test_a_run_without_its_double_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run the step `double` first"):
        certainty.read(tmp_path)
