"""The student learns from teachers that never saw its image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from training.errors import RunError  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks.radiograph import RadiographNet  # noqa: E402
from training.recipes.chest_pneumonia import (  # noqa: E402
    student,
)
from training.recipes.chest_pneumonia import teacher as taught  # noqa: E402

TINY = taught.Knobs(widths="4,4,8", steps=2, warmup=1, batch=8, views=2)


def test_a_view_is_judged_by_the_teacher_that_never_saw_its_image() -> None:
    nets = [RadiographNet((4, 4, 8)).eval() for _ in range(5)]
    for fold, net in enumerate(nets):
        torch.nn.init.zeros_(net.head.weight)
        torch.nn.init.constant_(net.bias, float(fold))
    folds = np.array([3, 0, 4, 1, 2, 3])
    judge = student.owners(nets, folds)
    which = np.array([5, 1, 0, 4])
    assert judge(torch.zeros(4, 1, 28, 28), which).tolist() == folds[which].tolist()


def test_the_student_learns_from_its_teacher(radiographs: Any, tmp_path: Path) -> None:
    data = radiographs()
    k = replace(TINY, soft=1.0, steps=40, rate=1e-2, temperature=1.0)
    views = data.images[None]
    calm = student.one_owner

    class Contrary(torch.nn.Module):
        """Says that everyone is well."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return torch.full((len(x),), -4.0), None

    rows = np.arange(len(data))
    model = taught.train(k, data, views, rows, tmp_path, calm(Contrary()))
    unit = taught.in_unit(data.images)
    assert (taught.logits_of(model, unit) < -1).all()


def test_a_run_that_was_stopped_teaches_nobody(radiographs: Any, tmp_path: Path) -> None:
    data = radiographs()
    taught.train(TINY, data, data.images[None], np.arange(40), tmp_path)
    assert student.finished(tmp_path) is not None
    state = load_checkpoint(tmp_path / "last.pt")
    torch.save({**state, "step": 1}, tmp_path / "last.pt")
    with pytest.raises(RunError, match="stopped at step 1 of 2"):
        student.finished(tmp_path)
    torch.save({**state, "ema": {}}, tmp_path / "last.pt")
    with pytest.raises(RunError, match="is of another network"):
        student.finished(tmp_path)
    torch.save({"recipe": "lung_nodule_mass", "knobs": {"steps": 1}}, tmp_path / "last.pt")
    with pytest.raises(RunError, match="made by lung_nodule_mass: no teacher"):
        student.finished(tmp_path)
    with pytest.raises(RunError, match="train it first"):
        student.finished(tmp_path / "none")


def test_a_student_that_is_too_large_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="at most 600000"):
        run(student, monkeypatch, "--widths", "64,128,256")
    with pytest.raises(RunError, match="three whole numbers"):
        run(student, monkeypatch, "--widths", "wide")
