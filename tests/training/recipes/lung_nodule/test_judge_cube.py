"""What the 3D branch gains is counted right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.errors import RunError
from training.judge.froc import Marks
from training.recipes.lung_nodule import cube
from training.recipes.lung_nodule import judge_cube as judge
from training.ship.onnx_file import exported

TINY = cube.Knobs(steps=2, batch=4, save_every=1, warmup=1)


def test_average_precision_is_the_mean_precision_at_each_nodule() -> None:
    labels, scores = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert judge.average_precision(labels, scores) == pytest.approx((1 + 2 / 3) / 2)


def marks(better: bool) -> list[Marks]:
    """Five scans of two nodules; the false findings stand above them or below."""
    score = np.array([0.9, 0.8, 0.2, 0.1]) if better else np.array([0.2, 0.1, 0.9, 0.8])
    return [Marks(score, np.array([0, 1, -1, -1]), 2) for _ in range(5)]


def test_a_better_order_gains_and_the_same_order_gains_nothing() -> None:
    assert judge.gain(marks(False), marks(True), 20)["1 a scan"] == [0.0, 1.0, 1.0, 1.0]
    assert judge.gain(marks(True), marks(True), 20)["cpm"] == [1.0, 1.0, 0.0, 0.0]


def test_a_column_that_knows_better_gains(a_fold: Any) -> None:
    table = judge.compared([a_fold("a"), a_fold("b", seed=1)], judge.Knobs(samples=20))
    before, after, low, _ = table["all"]["froc"]["cpm"]
    assert after == 1
    assert before < 0.9
    assert low > 0
    assert table["a"]["heat+patch+cube"]["ranks"] == [1]
    assert table["a"]["cube"]["auc"] == 1
    assert table["a"]["heat"]["auc"] < 0.9


def test_fewer_candidates_are_the_best_of_each_scan(a_fold: Any) -> None:
    few = judge.fewer(a_fold("a"), 10)
    assert np.bincount(few.of.scan).tolist() == [10, 10, 10]
    assert few.of.heat.min() == -9
    assert len(few.features) == len(few.verdicts) == len(few.lesion) == len(few.of.cubes) == 30


@pytest.mark.long
def test_the_judge_reads_torch_and_onnx_alike(
    a_fold: Any, folder: Any, pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    model = cube.train(TINY, [pool()], None, folder(tmp_path, "run"))
    plain = exported(model, (32, 32, 32), ["logit"], many=True)
    onnx.save_model(plain, str(tmp_path / "run" / "float.onnx"))
    of = a_fold("a", count=2).of
    torch_logits = judge.logits(of, "run", "last.pt")
    assert torch_logits.shape == (6,)
    assert np.abs(torch_logits - judge.logits(of, "run", "float.onnx")).max() < 1e-3
    with pytest.raises(RunError, match="no such network"):
        judge.logits(of, "run", "int8.onnx")
