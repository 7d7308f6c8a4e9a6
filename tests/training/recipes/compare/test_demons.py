"""The baseline: demons find how far an image was moved."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from training.recipes.compare.demons import demons, pulled


def test_demons_find_a_shift_of_ten_millimetres() -> None:
    rng = np.random.default_rng(1)
    prior = ndimage.gaussian_filter(rng.random((24, 24, 24)), 2).astype(np.float32)
    prior = (prior - prior.min()) / (prior.max() - prior.min())
    shift = np.zeros((3, 24, 24, 24), np.float32)
    shift[0] = 10 / 8
    current = pulled(prior, shift)
    field = demons(prior, current)
    inner = field[:, 6:-6, 6:-6, 6:-6]
    assert abs(float(inner[0].mean()) - 10) < 1.5
    assert np.abs(inner[1:]).mean() < 1.5
