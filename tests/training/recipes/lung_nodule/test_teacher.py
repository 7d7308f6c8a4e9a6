"""The patch teacher learns, its head first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks import EfficientNetLite0  # noqa: E402
from training.recipes.lung_nodule import classify as student  # noqa: E402
from training.recipes.lung_nodule import teacher  # noqa: E402
from training.recipes.lung_nodule.patches import (  # noqa: E402
    logits_of,
)

pytestmark = pytest.mark.usefixtures("work")


def test_the_teacher_takes_two_steps_the_first_of_them_frozen(
    data: dict[str, np.ndarray], work: Path
) -> None:
    (work / "teacher").mkdir()
    k = teacher.Knobs(
        steps=2, batch=4, warmup=1, frozen_steps=1, pretrained=False, save_every=1, judge_every=9
    )
    model = teacher.train(k, data, work / "teacher")
    state = load_checkpoint(work / "teacher" / "last.pt")
    assert (state["step"], state["recipe"]) == (2, "lung_nodule_teacher")
    assert "2," in (work / "teacher" / "log.csv").read_text()
    assert np.isfinite(logits_of(model, data["val_images"], views=1)).all()
    assert isinstance(student.teacher("teacher"), EfficientNetLite0)
