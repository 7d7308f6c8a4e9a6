"""Each recipe takes two steps on made-up data, resumes, and exports to the same numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

import training  # noqa: E402
from training.errors import RunError  # noqa: E402
from training.implant.shapes import Shape  # noqa: E402
from training.implant.synthetic import made_up_host  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.networks import LungNet, PatchNet, ProposeNet  # noqa: E402
from training.read.lung_truth import lung_truth  # noqa: E402
from training.read.volume import resample  # noqa: E402
from training.recipes.lung_nodule import propose, segment  # noqa: E402
from training.ship.onnx_file import exported, parity  # noqa: E402


def test_the_proposal_recipe_takes_two_steps(tmp_path: Path) -> None:
    host = made_up_host(np.random.default_rng(1))
    shapes = [Shape(np.full((9, 9, 9), 255, np.uint8), float(d), 1) for d in np.linspace(4, 30, 40)]
    k = propose.Knobs(steps=2, batch=2, warmup=1, implants=3.0)
    propose.train(k, [host], [host], shapes, tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 2
    other = replace(k, hosts="A0001")
    with pytest.raises(RunError, match="of a run with another --hosts"):
        propose.train(other, [host], [host], shapes, tmp_path)


def test_a_run_begins_with_the_weights_of_another_on_the_same_hosts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    host = made_up_host(np.random.default_rng(1))
    shapes = [Shape(np.full((9, 9, 9), 255, np.uint8), float(d), 1) for d in np.linspace(4, 30, 40)]
    k = propose.Knobs(steps=1, batch=1, warmup=1, hosts="a")
    first = propose.train(k, [host], [], shapes, tmp_path / "first")
    still = replace(k, name="second", begin="first", rate=0.0)
    again = propose.train(still, [host], [], shapes, tmp_path / "second")
    assert torch.equal(first.stem[0].weight, again.stem[0].weight)
    with pytest.raises(RunError, match="trained on other hosts"):
        propose.train(replace(still, hosts="b"), [host], [], shapes, tmp_path / "third")


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    host = made_up_host(np.random.default_rng(1))
    shapes = [Shape(np.full((9, 9, 9), 255, np.uint8), float(d), 1) for d in np.linspace(4, 30, 40)]
    k = propose.Knobs(steps=3, batch=1, warmup=1, save_every=1, rate=1e30)
    with pytest.raises(RunError, match="the loss of step 2 is"):
        propose.train(k, [host], [], shapes, tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1


def test_some_patches_come_again_mirrored_anew() -> None:
    host = made_up_host(np.random.default_rng(1))
    shapes = [Shape(np.full((9, 9, 9), 255, np.uint8), float(d), 1) for d in np.linspace(4, 30, 40)]
    k = propose.Knobs(kept=4, echo=0.6)
    source = propose.patches(np.random.default_rng(2), [host], [], shapes, k)
    sums = [round(float(next(source).image.sum(dtype=np.float64)), 3) for _ in range(16)]
    assert 4 <= len(set(sums)) < 16


def test_the_lung_recipe_takes_two_steps(tmp_path: Path) -> None:
    hu = np.full((40, 48, 48), -1000, np.float32)
    z, y, x = np.ogrid[:40, :48, :48]
    hu[np.broadcast_to((y - 24) ** 2 + (x - 24) ** 2 < 22**2, hu.shape)] = 40
    for side in (15, 33):
        hu[((z - 20) / 15) ** 2 + ((y - 24) / 14) ** 2 + ((x - side) / 7) ** 2 < 1] = -850
    fine = resample(hu, [3.0] * 3, [1.5] * 3)
    truth = lung_truth(fine, 1.5).astype(np.float32)
    assert truth.any()
    host = segment.Host(
        "made-up", {1.5: fine, 3.0: hu}, {1.5: truth, 3.0: resample(truth, [1.5] * 3, [3.0] * 3)}
    )
    k = segment.Knobs(steps=2, batch=2, depth=32, width=48, warmup=1)
    segment.train(k, [host], tmp_path)
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
