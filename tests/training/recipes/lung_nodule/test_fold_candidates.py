"""Candidates of a fold's scans: cut by the line, kept with their truth and their pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from training.errors import DataError, RunError
from training.implant.hosts import Host, Target
from training.implant.nodules import Places
from training.read.volume import Volume
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.fold_candidates import (
    Fold,
    cube_logits,
    cut,
    kept,
    load,
    patch_logits,
    save,
)


def heat(image: Any) -> dict[str, Any]:
    """Two bright cells: the first at voxel (25.5, 33.5, 41.5) of 1.25 mm."""
    shape = [1, 1, *(n // 4 for n in image.shape[2:])]
    out = np.full(shape, -9.0, np.float32)
    out[0, 0, 6, 8, 10], out[0, 0, 12, 16, 11] = 4, 2
    return {"heat": out, "log_diameter": np.full(shape, np.log(7.0), np.float32)}


RUNS: dict[str, Any] = {
    "segment": lambda image: {"lungs": np.ones_like(image)},
    "propose": heat,
    "classify": lambda image: {"logit": image[:, 0, 24, 24].astype(np.float32)},
    "cube": lambda image: {"logit": image[:, 0, 16, 16, 16].astype(np.float32)},
}


def backend() -> CpuBackend:
    entries = {role: bundle.network(role, "0" * 64) for role in RUNS}  # type: ignore[arg-type]
    return CpuBackend("onnxruntime", entries, RUNS)  # type: ignore[arg-type]


def host() -> Host:
    hu = np.full((40, 64, 64), -850, np.float32)
    hu[8:13, 11:17, 15:20] = 40  # where the first cell lies, in voxels of 3 mm
    volume = Volume("v", hu, (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    mass = np.zeros((80, 128, 128), bool)
    mass[40:44, 54:58, 36:40] = True  # the second cell, in voxels of 1.5 mm
    nowhere = Places(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)))
    lesions = (Target((9.0, 9.0, 9.0), 8.0, by_eye=True),)
    return Host(volume, 0.0, nowhere, lesions, mass, unsure=(Target((30.0, 30.0, 30.0), 6.0),))


def test_candidates_come_back_as_they_were_cut(tmp_path: Path) -> None:
    given, path = host(), tmp_path / "kept.npz"
    part = cut(given.volume, backend(), Fold("v", "run"))
    row = {"center_lps_mm": part["center_lps_mm"][0].tolist(), "diameter_mm": 8.0}
    save(path, [part, part], [[row], []], given)
    back = load(path)
    assert list(tmp_path.iterdir()) == [path]
    assert back.scan.tolist() == [0, 0, 1, 1]
    assert back.heat.tolist() == [4, 2, 4, 2]
    assert back.truth == [[row], []]
    assert back.lesions[0]["center_lps_mm"] == pytest.approx([7.5, 7.5, 7.5])
    assert back.lesions[0]["by_eye"]
    (doubtful,) = back.unsure
    assert doubtful["center_lps_mm"] == pytest.approx([28.5, 28.5, 28.5])
    assert back.aside.tolist() == [False, True, False, True]
    # the first is the implant, the second the boxed mass; without implants the first is false
    assert back.verdicts(0).tolist() == [0, -2]
    assert back.verdicts(1).tolist() == [-1, -2]


def test_kept_pixels_are_what_the_networks_of_the_line_see() -> None:
    part = cut(host().volume, backend(), Fold("v", "run"))
    inside, outside = (40 + 1000) / 1400, (-850 + 1000) / 1400
    assert patch_logits(part["patches"], backend()) == pytest.approx([inside, outside], abs=0.01)
    assert cube_logits(part["cubes"], backend()) == pytest.approx([inside, outside], abs=0.01)


def test_fewer_candidates_are_kept_nearer_to_the_lungs() -> None:
    given = host()

    def to_51_mm(image: Any) -> dict[str, Any]:
        return {"lungs": np.ones_like(image) * np.where(np.arange(image.shape[4]) < 17, 1, -1)}

    left = {**RUNS, "segment": to_51_mm}
    entries = {role: bundle.network(role, "0" * 64) for role in RUNS}  # type: ignore[arg-type]
    half = CpuBackend("onnxruntime", entries, left)  # type: ignore[arg-type]
    assert len(cut(given.volume, half, Fold("v", "run"))["heat"]) == 1
    assert len(cut(given.volume, half, Fold("v", "run", within_mm=10))["heat"]) == 2


def test_a_host_that_counts_for_masses_alone_is_no_fold_here() -> None:
    with pytest.raises(DataError, match="A0002 has slices of 8 mm"):
        kept(Fold("A0002", "propose"))


def test_a_run_without_its_network_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    with pytest.raises(RunError, match=r"segment/int8.onnx: no such network"):
        kept(Fold("R01-001", "propose"))
