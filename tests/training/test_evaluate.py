"""Hits, free-response curves, patches and the calibration's fit, on cases that can be counted."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.calibrate import fit
from training.data import Volume
from training.evaluate import Finding, Heads, Networks, Scan, eight, find, froc, hits, patches
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


def test_a_patch_has_its_candidate_at_its_middle_pixel() -> None:
    hu = np.full((3, 60, 60), -1000, np.float32)
    hu[1, 20, 5] = 400
    volume = Volume("v", hu, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    patch = patches(volume, [np.array([5.2, 19.8, 1.6])], 48)[0]
    assert patch.shape == (48, 48)
    assert patch[24, 24] == 1
    assert patch.sum() == 1


def test_the_eight_views_are_different_and_hold_the_same_pixels() -> None:
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    views = {v.tobytes() for v in eight(image)}
    assert len(views) == 8


def test_the_line_names_the_place_of_a_bright_cell() -> None:
    volume = Volume(
        "v", np.full((40, 64, 64), -850, np.float32), (3.0, 3.0, 3.0), (-100.0, -50.0, 7.0)
    )

    def propose(image: np.ndarray) -> tuple[np.ndarray, ...]:
        heat = np.full((1, 1, *(n // 4 for n in image.shape[2:])), -9, np.float32)
        heat[0, 0, 6, 8, 10] = 4
        return heat, np.full_like(heat, np.log(7.0))

    networks = Networks(
        lambda x: (np.ones_like(x),), propose, lambda x: (np.zeros(len(x), np.float32),)
    )
    (found,) = find(volume, networks, Heads())
    # cell (6, 8, 10) has its centre 5 mm * (c + 0.5) from the outer edge at -1.5 mm from the first voxel
    assert found.center_lps_mm == pytest.approx((-101.5 + 52.5, -51.5 + 42.5, 5.5 + 32.5), abs=0.02)
    assert found.diameter_mm == pytest.approx(7.0, rel=1e-4)
    assert found.score == pytest.approx(1 / (1 + np.exp(-4)))


def test_the_logistic_fit_finds_the_figures_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20000, 2))
    p = 1 / (1 + np.exp(-(1.5 * x[:, 0] - 0.7 * x[:, 1] + 0.3)))
    w = fit(x, (rng.random(20000) < p).astype(float))
    assert w == pytest.approx([1.5, -0.7, 0.3], abs=0.08)
