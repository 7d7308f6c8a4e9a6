"""Painted vessels: long, of soft tissue, on the block's own grid."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from scipy import ndimage

from appliance.quality.implant import Block
from training.implant.decoys import add_vessels, vessel


def test_a_vessel_thins_out_at_its_ends_and_runs_through_its_place() -> None:
    for seed in range(20):
        middle = np.array([40.0, 50.0, 60.0])
        parts = vessel(np.random.default_rng(seed), middle)
        points, radii = parts[0]
        assert np.linalg.norm(points - middle, axis=1).min() < 1e-9
        assert radii[0] == radii[-1] == 0
        length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
        assert length > 5 * radii.max()
        for branch, thin in parts[1:]:
            assert thin[-1] == 0
            assert np.linalg.norm(points - branch[0], axis=1).min() < 3


@pytest.mark.parametrize("spacing", [(1.0, 0.7, 0.7), (5.0, 0.8, 0.8)])
def test_vessels_are_long_and_of_soft_tissue(spacing: tuple[float, float, float]) -> None:
    hu = np.full([int(80 / s) for s in spacing], -860, np.float32)
    add_vessels(np.random.default_rng(3), Block(hu, spacing, 0.0), 3)
    changed = hu > -700
    assert 0 < changed.mean() < 0.2
    assert hu.max() < 100
    labels, count = ndimage.label(changed, np.ones((3, 3, 3)))
    assert count >= 1
    largest = np.argwhere(
        labels == 1 + np.argmax(ndimage.sum_labels(changed, labels, range(1, count + 1)))
    )
    reach = (np.ptp(largest, axis=0) + 1) * spacing
    volume = len(largest) * np.prod(spacing)
    # longer than any ball of its volume is wide
    assert np.linalg.norm(reach) > 2 * (6 * volume / np.pi) ** (1 / 3)


def test_what_is_denser_than_a_vessel_stays() -> None:
    hu = np.full((40, 60, 60), 900, np.float32)
    add_vessels(np.random.default_rng(3), Block(hu, (2.0, 1.0, 1.0), 10.0), 3)
    assert (hu == 900).all()
