"""The pneumonia recipes take two steps on made-up radiographs; the chain ends in a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.recipes.chest_pneumonia import teacher as taught  # noqa: E402
from training.recipes.chest_pneumonia.pneumonia_mnist import (  # noqa: E402
    against_the_rule,
)

TINY = taught.Knobs(widths="4,4,8", steps=2, warmup=1, batch=8, views=2)


def test_a_teacher_takes_two_steps_and_resumes(radiographs: Any, tmp_path: Path) -> None:
    data = radiographs()
    views = taught.views_of(data.images, TINY, tmp_path)
    rows = np.flatnonzero(data.folds != 0)
    taught.train(TINY, data, views, rows, tmp_path)
    longer = replace(TINY, steps=3)
    model = taught.train(longer, data, views, rows, tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3
    unit = taught.in_unit(data.images)
    assert np.isfinite(taught.logits_of(model, unit)).all()


def test_views_are_kept_and_belong_to_their_images(radiographs: Any, tmp_path: Path) -> None:
    data = radiographs(8)
    once = taught.views_of(data.images, TINY, tmp_path)
    assert once.shape == (2, 8, 28, 28)
    again = taught.views_of(data.images, TINY, tmp_path)
    assert np.array_equal(once, again)
    others = taught.views_of(255 - data.images, TINY, tmp_path)
    assert not np.array_equal(once, others)


def test_a_batch_has_half_of_each_class_and_nothing_of_the_fold_left_out(radiographs: Any) -> None:
    data = radiographs()
    views = np.zeros((1, 40, 28, 28), np.uint8)
    seen: list[int] = []

    def teacher(x: torch.Tensor, which: np.ndarray) -> torch.Tensor:
        seen.extend(which)
        return torch.full((len(which),), 3.0)

    rows = np.flatnonzero(data.folds != 2)
    draw = taught.drawer(data, views, rows, TINY, teacher)
    for step in range(5):
        x, y, soft = draw(np.random.default_rng(step))
        assert x.shape == (8, 1, 28, 28)
        assert sorted(y.tolist()) == pytest.approx([0.025] * 4 + [0.975] * 4)
        assert soft.tolist() == [3.0] * 8
    assert not (data.folds[seen] == 2).any()


def test_the_probe_learns_where_the_shortcut_holds_and_is_judged_where_it_fails(
    radiographs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = radiographs()
    seen: list[np.ndarray] = []
    real = taught.train

    def train(k: object, data: object, views: object, rows: np.ndarray, folder: Path) -> object:
        seen.append(rows)
        return real(k, data, views, rows, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(taught, "train", train)
    taught.probe(TINY, data, data.images[None], tmp_path)
    found = json.loads((tmp_path / "probe.json").read_text())
    hard = against_the_rule(data)
    assert not hard[seen[0]].any()
    assert found["n"] == hard.sum() == 40 - len(seen[0])
    assert set(found["auc"]) >= {"plain", "contrary"}
