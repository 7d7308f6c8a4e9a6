"""Hits, free-response curves, patches and the calibration's fit, on cases that can be counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from appliance.backend.cpu import CpuBackend
from appliance.bundle.manifest import Calibration
from training import source
from training.calibrate import fit
from training.data import Volume
from training.findings import Finding, Scan, find, froc, hits, stack_of
from training.metrics import auc


def finding(x: float, score: float) -> Finding:
    return Finding((x, 0.0, 0.0), 6.0, 0.0, 0.0, score)


def test_auc_counts_ties_as_half() -> None:
    assert auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.9]) == pytest.approx(3.5 / 4)


def test_a_nodule_is_hit_once_and_a_known_lesion_is_neither() -> None:
    found = [finding(0, 0.9), finding(3, 0.8), finding(50, 0.7), finding(100, 0.6)]
    verdicts = hits(found, [(np.zeros(3), 4.0)], [(np.array([52.0, 0, 0]), 6.0)])
    assert verdicts == [0, -2, -2, -1]


def test_the_curve_stops_at_the_allowed_false_findings() -> None:
    scan = Scan(
        [finding(0, 0.9), finding(1, 0.8), finding(2, 0.7), finding(3, 0.6)], [0, -1, 1, -1], [5, 5]
    )
    assert froc([scan], [0, 1, 2]) == [(0, 0.5, 0.9), (1, 1.0, 0.7), (2, 1.0, 0.6)]


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
    entries = {role: source.network(role, "0" * 64) for role in source.FILES}
    backend = CpuBackend("onnxruntime", entries, RUNS)  # type: ignore[arg-type]
    line = source.line(Calibration(propose=1.0, classify=0.5, bias=-1.0, threshold=0.5))
    (found,) = find(volume, backend, line)
    # cell c's centre lies 5 mm * (c + 0.5) from the outer edge, 1.5 mm before the first voxel
    assert found.center_lps_mm == pytest.approx((-49.0, -9.0, 38.0), abs=0.02)
    assert found.diameter_mm == pytest.approx(7.0, rel=1e-4)
    assert (found.heat, found.patch) == pytest.approx((4.0, 2.0))
    assert found.score == pytest.approx(1 / (1 + np.exp(-4)))


def test_a_volume_becomes_a_stack_in_the_same_place() -> None:
    volume = Volume("v", np.zeros((3, 4, 5), np.float32), (2.0, 0.5, 0.5), (1.0, 2.0, 3.0))
    stack = stack_of(volume)
    assert stack.planes[2].geometry.position_lps_mm == (1.0, 2.0, 7.0)
    assert stack.z_mm.tolist() == [0, 2, 4]


def test_the_logistic_fit_finds_the_figures_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20000, 2))
    p = 1 / (1 + np.exp(-(1.5 * x[:, 0] - 0.7 * x[:, 1] + 0.3)))
    w = fit(x, (rng.random(20000) < p).astype(float))
    assert w == pytest.approx([1.5, -0.7, 0.3], abs=0.08)
