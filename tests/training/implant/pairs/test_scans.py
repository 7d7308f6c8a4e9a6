"""What a scanner makes of a chest: slices, noise, and how much it covers."""

from __future__ import annotations

import numpy as np
import pytest

from rigs.made_chest import made_chest
from training.implant.pairs import scans


def test_slices_keep_what_is_even_and_blur_along_z_alone() -> None:
    even = np.full((40, 3, 3), 7.0, np.float32)
    assert np.allclose(scans.sliced(even, 1.0, 5.0), 7.0, atol=1e-4)
    one = np.zeros((40, 3, 3), np.float32)
    one[20, 1, 1] = 100.0
    seen = scans.sliced(one, 1.0, 5.0)
    assert seen[:, 0, 0].max() == 0
    assert 5 < seen[:, 1, 1].max() <= 20.01
    assert (seen[:, 1, 1] > 0.01).sum() >= 5


def test_a_cut_scan_loses_at_most_a_share_of_the_lungs_at_one_end() -> None:
    chest = made_chest(8.0)
    heights = np.flatnonzero(chest.lungs.any((1, 2)))
    lost = []
    for seed in range(60):
        seen = scans.cut(np.random.default_rng(seed), np.ones_like(chest.lungs), chest.lungs)
        kept = seen[heights].all((1, 2))
        assert seen[heights[0] : heights[-1] + 1].any((1, 2)).sum() == kept.sum()
        lost.append(1 - kept.mean())
    assert max(lost) <= scans.CUT_MOST + 0.05
    assert 0 < np.mean(np.array(lost) > 0) < 0.5


def test_what_a_scan_does_not_cover_is_air_and_the_rest_has_noise() -> None:
    chest = made_chest(8.0)
    cover = np.ones_like(chest.lungs)
    cover[:, :, :5] = False
    seen = scans.scanned(np.random.default_rng(1), chest.hu, cover, chest.lungs, 8.0)
    assert (seen.hu[~seen.cover] == -1000).all()
    assert seen.hu.min() >= -1000
    lungs = chest.lungs & seen.cover
    assert float(np.median(seen.hu[lungs])) == pytest.approx(-850, abs=30)
    assert np.abs(seen.hu - chest.hu)[lungs].mean() > 0.5
