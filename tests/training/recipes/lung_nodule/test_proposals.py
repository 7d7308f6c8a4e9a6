"""The line's first half on a volume that no file holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from appliance.bundle.heads import Calibration
from training.read.volume import Volume, stack_of
from training.recipes.lung_nodule import bundle
from training.recipes.lung_nodule.proposals import proposed

RUNS: dict[str, Any] = {
    "segment": lambda image: {"lungs": np.ones_like(image)},
    "propose": lambda image: one_bright_cell([1, 1, *(n // 4 for n in image.shape[2:])]),
    "classify": lambda image: {"logit": np.full(len(image), 2.0)},
}
"""Lung everywhere and one nodule, whatever the image."""


def one_bright_cell(shape: list[int]) -> dict[str, Any]:
    heat = np.full(shape, -9.0)
    heat[0, 0, 6, 8, 10] = 4
    return {"heat": heat, "log_diameter": np.full(shape, np.log(7.0))}


def test_the_line_names_the_place_of_a_bright_cell() -> None:
    hu = np.full((40, 64, 64), -850, np.float32)
    volume = Volume("v", hu, (3.0, 3.0, 3.0), (-100.0, -50.0, 7.0))
    entries = {role: bundle.network(role, "0" * 64) for role in bundle.FILES}
    backend = CpuBackend("onnxruntime", entries, RUNS)  # type: ignore[arg-type]
    line = bundle.line_model(Calibration(propose=1.0, classify=0.5, bias=-1.0, threshold=0.5))
    (found,) = proposed(stack_of(volume), backend, line)
    # cell c's centre lies 5 mm * (c + 0.5) from the outer edge, 1.5 mm before the first voxel
    assert found.center_lps_mm == pytest.approx((-49.0, -9.0, 38.0), abs=0.02)
    assert found.diameter_mm == pytest.approx(7.0, rel=1e-4)
    assert found.logits == {"propose": pytest.approx(4.0)}


def test_without_lungs_there_is_no_candidate() -> None:
    volume = Volume("v", np.zeros((40, 64, 64), np.float32), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    entries = {role: bundle.network(role, "0" * 64) for role in bundle.FILES}
    none = {**RUNS, "segment": lambda image: {"lungs": -np.ones_like(image)}}
    backend = CpuBackend("onnxruntime", entries, none)  # type: ignore[arg-type]
    line = bundle.line_model(Calibration(propose=1.0, classify=0.5, bias=-1.0, threshold=0.5))
    assert proposed(stack_of(volume), backend, line) == ()
