"""The pneumonia recipes take two steps on made-up radiographs; the chain ends in a bundle."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from compile.pack import pack  # noqa: E402
from training import evaluate  # noqa: E402
from training.errors import RunError  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks.radiograph import RadiographNet  # noqa: E402
from training.recipes.chest_pneumonia import (  # noqa: E402
    export,
    quantize,
    student,
)
from training.recipes.chest_pneumonia import teacher as taught  # noqa: E402
from training.recipes.chest_pneumonia.pneumonia_mnist import (  # noqa: E402
    FILE,
    Radiographs,
    against_the_rule,
    folds_of,
)
from training.ship.onnx_file import exported, parity  # noqa: E402

TINY = taught.Knobs(widths="4,4,8", steps=2, warmup=1, batch=8, views=2)


def radiographs(count: int = 40) -> Radiographs:
    """Noise; class 1 has a bright patch."""
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % 4 > 0).astype(np.int64)
    images = rng.normal(110, 25, (count, 28, 28))
    images[labels == 1, 8:20, 6:14] += 60
    groups = np.arange(count)
    whole = np.clip(images, 0, 255).astype(np.uint8)
    return Radiographs(whole, labels, groups, folds_of(labels, groups))


def run(recipe: object, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """The recipe's `main` with these words on its command line."""
    monkeypatch.setattr(sys, "argv", ["recipe", *words])
    recipe.main()  # type: ignore[attr-defined]


def test_a_teacher_takes_two_steps_and_resumes(tmp_path: Path) -> None:
    data = radiographs()
    views = taught.views_of(data.images, TINY, tmp_path)
    rows = np.flatnonzero(data.folds != 0)
    taught.train(TINY, data, views, rows, tmp_path)
    longer = replace(TINY, steps=3)
    model = taught.train(longer, data, views, rows, tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3
    unit = taught.in_unit(data.images)
    assert np.isfinite(taught.logits_of(model, unit)).all()


def test_views_are_kept_and_belong_to_their_images(tmp_path: Path) -> None:
    data = radiographs(8)
    once = taught.views_of(data.images, TINY, tmp_path)
    assert once.shape == (2, 8, 28, 28)
    again = taught.views_of(data.images, TINY, tmp_path)
    assert np.array_equal(once, again)
    others = taught.views_of(255 - data.images, TINY, tmp_path)
    assert not np.array_equal(once, others)


def test_a_batch_has_half_of_each_class_and_nothing_of_the_fold_left_out() -> None:
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


def test_a_view_is_judged_by_the_teacher_that_never_saw_its_image() -> None:
    nets = [RadiographNet((4, 4, 8)).eval() for _ in range(5)]
    for fold, net in enumerate(nets):
        torch.nn.init.zeros_(net.head.weight)
        torch.nn.init.constant_(net.bias, float(fold))
    folds = np.array([3, 0, 4, 1, 2, 3])
    judge = student.owners(nets, folds)
    which = np.array([5, 1, 0, 4])
    assert judge(torch.zeros(4, 1, 28, 28), which).tolist() == folds[which].tolist()


def test_the_student_learns_from_its_teacher(tmp_path: Path) -> None:
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


def test_a_run_that_was_stopped_teaches_nobody(tmp_path: Path) -> None:
    data = radiographs()
    taught.train(TINY, data, data.images[None], np.arange(40), tmp_path)
    assert student.finished(tmp_path) is not None
    state = load_checkpoint(tmp_path / "last.pt")
    torch.save({**state, "step": 1}, tmp_path / "last.pt")
    with pytest.raises(RunError, match="stopped at step 1 of 2"):
        student.finished(tmp_path)
    with pytest.raises(RunError, match="train it first"):
        student.finished(tmp_path / "none")


def test_the_probe_learns_where_the_shortcut_holds_and_is_judged_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_student_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="at most 600000"):
        run(student, monkeypatch, "--widths", "64,128,256")
    with pytest.raises(RunError, match="three whole numbers"):
        run(student, monkeypatch, "--widths", "wide")


@pytest.mark.filterwarnings("ignore")
def test_the_exported_network_answers_like_torch() -> None:
    model = RadiographNet((4, 4, 8)).eval()
    file = exported(model, (28, 28), quantize.OUTPUTS)
    image = np.random.default_rng(0).random((7, 1, 28, 28), dtype=np.float32)
    assert max(parity(model, file, image).values()) < 1e-4


def test_the_golden_image_is_our_phantom_from_the_front() -> None:
    image = export.radiograph(1)
    assert image.shape == (28, 28)
    lungs, middle = image[10:16, 6:9].mean(), image[10:16, 13:15].mean()
    assert lungs < middle, "the spine is bright, the lungs are dark"
    assert image[24:].mean() > image[10:16, 6:9].mean(), "the belly is below"


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_chain_ends_in_a_bundle_that_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = radiographs(100)
    file = tmp_path / "shared" / FILE
    file.parent.mkdir(parents=True)
    parts = {"train": slice(0, 80), "val": slice(80, 100)}
    arrays = {f"{name}_images": data.images[part] for name, part in parts.items()}
    arrays |= {f"{name}_labels": data.labels[part, None] for name, part in parts.items()}
    np.savez(file, **arrays)
    monkeypatch.setenv("SCANSIDE_SHARED", str(tmp_path / "shared"))
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path / "train"))
    few = ["--widths", "4,4,8", "--depth", "0", "--steps", "2", "--warmup", "1", "--batch", "8"]
    few += ["--views", "2"]
    run(taught, monkeypatch, *few)
    run(student, monkeypatch, *few, "--final_steps", "2")
    alone = ["--name", "pneumonia-alone", "--teacher", "", "--final", "false"]
    run(student, monkeypatch, *few, *alone)
    counts = ["--views", "2", "--images", "2", "--judged", "20", "--few", "1", "--most_lost", "1"]
    run(quantize, monkeypatch, *counts)
    out = tmp_path / "out"
    run(export, monkeypatch, "--out", str(out))

    about = json.loads((tmp_path / "train" / "pneumonia" / "quantize.json").read_text())
    assert about["scales"]
    assert len(about["calibration"]["digest"]) == 64
    opened = evaluate.open_bundle(out, threads=1)
    found = evaluate.of_radiographs(opened, data.images[80:], data.labels[80:])
    assert found["threshold"] == json.loads((out / "heads.json").read_text())["threshold"]
    assert len(found["per_image"]) == 20
    assert pack(out)
