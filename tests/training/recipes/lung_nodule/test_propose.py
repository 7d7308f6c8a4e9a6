"""Each recipe takes two steps on made-up data, resumes, and exports to the same numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from training.errors import RunError  # noqa: E402
from training.implant.shapes import Shape  # noqa: E402
from training.implant.synthetic import made_up_host  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.recipes.lung_nodule import propose  # noqa: E402


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
