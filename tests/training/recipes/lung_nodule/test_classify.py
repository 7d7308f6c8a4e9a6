"""The 2D branch: teacher and student take steps on made-up patches and are compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.errors import RunError  # noqa: E402
from training.learn.checkpoint import save_checkpoint  # noqa: E402
from training.learn.loop import device  # noqa: E402
from training.networks import EfficientNetLite0, PatchNet  # noqa: E402
from training.read.folders import work_folder  # noqa: E402
from training.recipes.lung_nodule import classify as student  # noqa: E402

pytestmark = pytest.mark.usefixtures("work")


@pytest.mark.long
def test_the_student_goes_on_from_itself_with_teachers_and_is_compared(
    data: dict[str, np.ndarray], work: Path
) -> None:
    alone = student.Knobs(
        name="student-alone", teachers="", start="", steps=12, batch=8, warmup=1, ema=0.5
    )
    student.train(alone, data, (data["val_images"], data["val_labels"]), work / "student-alone")
    first = student.teacher("student-alone")
    assert isinstance(first, PatchNet)
    k = student.Knobs(steps=2, batch=8, warmup=1, feature=0.1, ema=0.5)
    torch.manual_seed(0)
    teachers = [EfficientNetLite0().eval(), first]
    start = {name: value.clone() for name, value in first.state_dict().items()}
    model = student.train(k, data, None, work / "student", teachers, start)
    moved = (model.head.weight - start["head.weight"]).abs().max()
    assert 0 < moved < 0.05  # two small steps from where it started
    figures = student.compared(k, model, teachers, data)
    assert set(figures) == {
        "student",
        "teacher",
        "alone",
        "student minus alone",
        "teacher minus alone",
        "student minus teacher",
    }
    gain = figures["student"][0] - figures["alone"][0]
    assert figures["student minus alone"][0] == pytest.approx(gain, abs=2e-4)
    json.dumps(figures)


def test_with_weight_on_the_teachers_alone_the_labels_say_nothing() -> None:
    torch.manual_seed(0)
    model, one = PatchNet((4, 4, 8, 8)).eval(), PatchNet((4, 4, 8, 8)).eval()
    x = torch.rand(4, 1, 48, 48, device=device())
    zeros, ones = torch.zeros(4), torch.ones(4)
    k = student.Knobs(soft=1.0, attention=0.0)
    loss = student.loss_with(k, [one])
    assert torch.equal(loss(model, x, zeros), loss(model, x, ones))
    assert loss(one, x, ones).item() == pytest.approx(0, abs=1e-6)
    attended = student.loss_with(student.Knobs(soft=1.0, attention=1.0), [one])
    assert attended(model, x, zeros) > loss(model, x, zeros) + 0.01
    alone = student.loss_with(k, [])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(model(x), ones)
    torch.testing.assert_close(alone(model, x, ones), expected)


def test_a_run_of_another_recipe_is_no_teacher_of_patches() -> None:
    save_checkpoint(work_folder("cube") / "last.pt", {"recipe": "lung_nodule_cube", "ema": {}})
    with pytest.raises(RunError, match="no teacher of patches"):
        student.teacher("cube")
    with pytest.raises(RunError, match="has this run been trained"):
        student.teacher("none")
