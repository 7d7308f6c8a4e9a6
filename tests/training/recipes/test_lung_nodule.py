"""Each recipe takes two steps on made-up data, resumes, and exports to the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

import training  # noqa: E402
from training.data import lung_truth, resample  # noqa: E402
from training.loop import load_checkpoint  # noqa: E402
from training.networks import LungNet, PatchNet, ProposeNet  # noqa: E402
from training.onnx_file import exported, parity  # noqa: E402
from training.recipes import (  # noqa: E402
    lung_nodule_classify,
    lung_nodule_propose,
    lung_nodule_segment,
)
from training.shapes import Shape  # noqa: E402
from training.synthetic import made_up_host  # noqa: E402


def test_the_classifier_takes_two_steps_and_resumes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {
        f"{part}_{what}": (
            rng.integers(0, 255, (12, 50, 50)) if what == "images" else np.arange(12) % 2
        ).astype(np.uint8)
        for part in ("train", "val")
        for what in ("images", "labels")
    }
    k = lung_nodule_classify.Knobs(steps=2, batch=8, warmup=1)
    lung_nodule_classify.train(k, data, (data["val_images"], data["val_labels"]), tmp_path)
    again = lung_nodule_classify.train(
        lung_nodule_classify.Knobs(steps=3, batch=8, warmup=1), data, None, tmp_path
    )
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3
    assert np.isfinite(lung_nodule_classify.logits_of(again, data["val_images"])).all()


def test_the_proposal_recipe_takes_two_steps(tmp_path: Path) -> None:
    host = made_up_host(np.random.default_rng(1))
    shapes = [Shape(np.full((9, 9, 9), 255, np.uint8), float(d), 1) for d in np.linspace(4, 30, 40)]
    k = lung_nodule_propose.Knobs(steps=2, batch=2, warmup=1, implants=3.0)
    lung_nodule_propose.train(k, [host], [host], shapes, tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 2


def test_targets_lie_where_their_nodules_are() -> None:
    target = lung_nodule_propose.Target((42.5, 22.5, 12.5), 9.0)
    heat, size, weight = lung_nodule_propose.draw_targets([target])
    assert np.argwhere(heat == 1).tolist() == [[8, 4, 2]]
    assert size[8, 4, 2] == pytest.approx(np.log(9.0))
    assert weight.min() == 1


def test_the_lung_recipe_takes_two_steps(tmp_path: Path) -> None:
    hu = np.full((40, 48, 48), -1000, np.float32)
    z, y, x = np.ogrid[:40, :48, :48]
    hu[np.broadcast_to((y - 24) ** 2 + (x - 24) ** 2 < 22**2, hu.shape)] = 40
    for side in (15, 33):
        hu[((z - 20) / 15) ** 2 + ((y - 24) / 14) ** 2 + ((x - side) / 7) ** 2 < 1] = -850
    fine = resample(hu, [3.0] * 3, [1.5] * 3)
    truth = lung_truth(fine, 1.5).astype(np.float32)
    assert truth.any()
    host = lung_nodule_segment.Host(
        "made-up", {1.5: fine, 3.0: hu}, {1.5: truth, 3.0: resample(truth, [1.5] * 3, [3.0] * 3)}
    )
    k = lung_nodule_segment.Knobs(steps=2, batch=2, depth=32, width=48, warmup=1)
    lung_nodule_segment.train(k, [host], tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "side", "other", "outputs"),
    [
        (LungNet((4, 4, 8, 8)), (32, 32, 32), (1, 1, 16, 48, 32), ["lungs"]),
        (ProposeNet((4, 4, 8, 8)), (32, 32, 32), (1, 1, 16, 48, 32), ["heat", "log_diameter"]),
        (PatchNet((4, 4, 8, 8)), (48, 48), (7, 1, 48, 48), ["logit"]),
    ],
)
def test_exported_networks_answer_like_torch(
    model: torch.nn.Module,
    side: tuple[int, ...],
    other: tuple[int, ...],
    outputs: list[str],
) -> None:
    file = exported(model.eval(), side, outputs)
    image = np.random.default_rng(0).random(other, dtype=np.float32)
    gaps = parity(model, file, image)
    assert max(gaps.values()) < 1e-4
    here = str(Path(training.__file__).parents[1]).encode()
    assert here not in file.SerializeToString(), "stack traces of the exporter are in the file"
