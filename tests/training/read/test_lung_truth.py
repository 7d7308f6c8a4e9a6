"""Lungs without the windpipe, and a closing that does not grow."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
from training.read.lung_truth import close, lung_truth


def test_closing_bridges_a_gap_and_does_not_grow() -> None:
    mask = np.zeros((9, 30, 30), bool)
    mask[:, 4:12, 4:26], mask[:, 15:26, 4:26] = True, True
    closed = close(mask, 9.0, 3.0)
    assert closed[4, 13, 15]
    assert not closed[4, 1, 15]
    assert (closed & mask).sum() == mask.sum()


def test_lungs_are_the_inner_air_without_the_windpipe() -> None:
    hu = np.full((60, 100, 100), -1000, np.float32)
    z, y, x = np.ogrid[:60, :100, :100]
    hu[np.broadcast_to(((y - 50) / 40) ** 2 + ((x - 50) / 46) ** 2 < 1, hu.shape)] = 40
    for side in (28, 72):
        lung = ((z - 25) / 22) ** 2 + ((y - 50) / 24) ** 2 + ((x - side) / 14) ** 2 < 1
        hu[lung] = -850
    windpipe = np.broadcast_to((y - 45) ** 2 + (x - 50) ** 2 < 16, hu.shape) & (z > 30)
    hu[windpipe] = -1000
    truth = lung_truth(hu, 2.0)
    assert truth[25, 50, 28]
    assert truth[25, 50, 72]
    assert not truth[:, 0].any()
    assert not truth[40:, 43:48, 48:53].any()
