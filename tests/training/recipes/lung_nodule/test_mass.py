"""The recipes of masses and of measuring take two steps, resume, and export to the same numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from scipy import ndimage  # noqa: E402

from training.implant.hosts import Target  # noqa: E402
from training.implant.masses import MassHost  # noqa: E402
from training.implant.shapes import Shape  # noqa: E402
from training.learn.checkpoint import load_checkpoint  # noqa: E402
from training.read.volume import Volume  # noqa: E402
from training.recipes.lung_nodule import mass  # noqa: E402

SHAPES = [Shape(np.full((9, 9, 9), 255, np.uint8), float(d), 1) for d in np.linspace(4, 30, 40)]


def host(masses: tuple[Target, ...] = ()) -> MassHost:
    at = np.indices((48, 48, 48)) - 23.5
    inside = np.sqrt((at**2).sum(0)) < 20
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    hu = np.where(inside, -850, 50).astype(np.float32)
    lesions = (Target((60.0, 72.0, 72.0), 19.0), Target((90.0, 72.0, 72.0), 6.0))
    volume = Volume("made-up", hu, (3.0,) * 3, (0.0,) * 3)
    return MassHost(volume, hu, np.asarray(depth * 3, np.float32), 5.0, masses, lesions)


def test_the_mass_recipe_takes_two_steps_and_resumes(tmp_path: Path) -> None:
    small = {"batch": 1, "depth": 32, "width": 32, "warmup": 1}
    # maps of 2 voxels a side: oneDNN sums up memory that nobody wrote there in bfloat16
    k = mass.Knobs(steps=3, bf16=False, **small)
    mass.train(replace(k, steps=2), [host()], SHAPES, tmp_path)
    model = mass.train(k, [host()], SHAPES, tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3
    assert all(bool(torch.isfinite(v).all()) for v in model.state_dict().values())


def test_a_boxed_mass_is_found_again_in_a_turned_piece() -> None:
    k = mass.Knobs(depth=48, width=48, real=1.0)
    box = Target((45.0, 100.0, 60.0), 40.0)
    marked = host((box,))
    at = (np.indices(marked.hu.shape).reshape(3, -1).T + 0.5) * 3
    near = np.linalg.norm(at - box.center_mm, axis=1).reshape(marked.hu.shape) < 15
    marked.hu[near] = 900
    rng = np.random.default_rng(2)
    for _ in range(6):
        chest, masses, unsure = mass.cut(rng, marked, k)
        seen = ndimage.center_of_mass(np.clip(chest.block.hu, 0, 900) > 500)
        assert (np.array(seen) + 0.5) * 3 == pytest.approx(masses[0].center_mm, abs=2.5)
        from_middle = np.abs(np.array(masses[0].center_mm) - 72).max()
        assert from_middle < 14 * 3 * 1.5, "its piece was cut around another place"
        assert 0.8 < masses[0].diameter_mm / 40 < 1.25
        assert len(unsure) == 1, "the lesion of 19 mm may be called a mass, that of 6 mm not"


def test_targets_of_masses_lie_where_they_are() -> None:
    sure, small = Target((90.0, 30.0, 54.0), 50.0), Target((30.0, 90.0, 90.0), 18.0)
    heat, log_mm, weight = mass.draw_targets([sure, small], (48, 48, 48), real=1)
    assert np.argwhere(heat == 1).tolist() == [[7, 2, 4]]
    assert log_mm[7, 2, 4] == pytest.approx(np.log(50))
    assert weight[7, 2, 4] == 1
    assert weight[7, 3, 4] == 0, "the edge of a box drawn by eye teaches nothing"
    assert weight[2, 7, 7] == 0, "too small to be sure"
    assert weight[0, 0, 0] == 1
