"""The 2D branch: teacher and student take steps on made-up patches and are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.errors import RunError  # noqa: E402
from training.learn.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from training.learn.loop import device  # noqa: E402
from training.networks import EfficientNetLite0, PatchNet  # noqa: E402
from training.read.folders import work_folder  # noqa: E402
from training.recipes.lung_nodule import classify as student  # noqa: E402
from training.recipes.lung_nodule import teacher  # noqa: E402
from training.recipes.lung_nodule.patches import (  # noqa: E402
    Variation,
    augment,
    eight_views,
    load_patches,
    logits_of,
    mixed,
)


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for part in ("train", "val"):
        labels = (np.arange(16) % 2).astype(np.uint8)
        noise = rng.integers(0, 60, (16, 50, 50))
        noise[labels == 1, 20:30, 20:30] += 150
        made |= {f"{part}_images": noise.astype(np.uint8), f"{part}_labels": labels}
    return made


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A work folder of its own."""
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


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


def test_a_patch_file_that_is_none_or_cut_short_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "patches.npz"
    with pytest.raises(RunError, match="not the LUNA16 patch file"):
        load_patches(path)
    np.savez(path, train_images=np.zeros((1, 50, 50), np.uint8))
    with pytest.raises(RunError, match="not the LUNA16 patch file"):
        load_patches(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="not the LUNA16 patch file") as ended:
        load_patches(path)
    assert "\n" not in str(ended.value)


def test_varied_patches_are_the_same_for_the_same_seed_and_stay_in_the_window(
    data: dict[str, np.ndarray],
) -> None:
    images, labels = data["train_images"], data["train_labels"]
    one, other = (mixed(np.random.default_rng(4), images, labels, Variation()) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert one[0].shape == (16, 1, 48, 48)
    assert 0 <= one[0].min() <= one[0].max() <= 1
    plain = augment(torch.from_numpy(images), np.random.default_rng(4), Variation(0, 0, 0))
    assert plain[labels == 1, :, 20:28, 20:28].mean() > plain[labels == 0].mean() + 0.3


def test_eight_views_are_eight() -> None:
    x = torch.rand(1, 1, 4, 4)
    views = eight_views(x)
    assert len({tuple(v.flatten().tolist()) for v in views}) == 8
    assert all(sorted(v.flatten().tolist()) == sorted(x.flatten().tolist()) for v in views)
