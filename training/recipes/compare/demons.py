"""The baseline without a network: demons at 16, then 8 mm.

Rules. Thirion's forces with the symmetric gradient (Vercauteren et al.,
doi:10.1016/j.neuroimage.2008.10.040), each step smoothed as a fluid's and the whole as an elastic
body's. Steps are bounded, so it ends. It answers as the network does: cells of current -> mm.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from training.implant.pairs.fields import FIELD_MM
from training.implant.pairs.pair import finer, mean_cells
from training.read.volume import F32

STEPS = (60, 60)
"""At 16 and at 8 mm."""
FLUID, ELASTIC = 1.0, 1.2
"""Standard deviations in cells."""
SMALL = 1e-6


def demons(prior: F32, current: F32) -> F32:
    """Two images [z, y, x] in [0, 1] at 8 mm, of even sizes -> field [3, z, y, x] mm."""
    old, new = mean_cells(prior, 2), mean_cells(current, 2)
    coarse = _at_one_size(old, new, np.zeros((3, *new.shape), np.float32), STEPS[0])
    field = _at_one_size(prior, current, finer(coarse * 2, 2), STEPS[1])
    return np.asarray(field * FIELD_MM, np.float32)


def pulled(image: F32, field: F32) -> F32:
    """image(x + field(x)); the field in cells, the border repeated."""
    at = np.indices(image.shape, np.float32) + field
    return np.asarray(ndimage.map_coordinates(image, at, order=1, mode="nearest"), np.float32)


def _at_one_size(prior: F32, current: F32, field: F32, steps: int) -> F32:
    """The field in cells, begun at `field`."""
    own = _slopes(current)
    for _ in range(steps):
        moved = pulled(prior, field)
        apart = current - moved
        slope = (own + _slopes(moved)) / 2
        push = apart * slope / ((slope**2).sum(0) + apart**2 + SMALL)
        field = field + np.stack([ndimage.gaussian_filter(one, FLUID) for one in push])
        field = np.stack([ndimage.gaussian_filter(one, ELASTIC) for one in field])
    return np.asarray(field, np.float32)


def _slopes(image: F32) -> F32:
    """[3, z, y, x] a cell."""
    return np.stack([np.gradient(image, axis=axis) for axis in range(3)])
