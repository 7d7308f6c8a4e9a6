"""The field that lays a box-aligned exam over another at 8 mm, by demons: what is used where a
bundle brings no network for it.

Rules
- In and out are those of the network (`Displace`): two images [z, y, x] at CELL_MM of HU -1000..400
  as 0..1, padded to a multiple of PAD with 0; out comes [3, z, y, x], millimetres along z, y, x on
  the grid of CURRENT: place of CURRENT + displacement = place of the box-aligned PRIOR.
- Density follows breath, so both images are first made even: minus their mean about, over their
  deviation about.
- Coarse to fine; symmetric forces of demons in the form of Vercauteren et al. (2009,
  doi:10.1016/j.neuroimage.2008.10.040), steps cut to MOST_STEP; step and field are smoothed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from appliance.prior import warp
from appliance.prior.warp import F32

Displace = Callable[[F32, F32], F32]
"""(PRIOR, CURRENT) -> field, as the rules say."""

CELL_MM: Final = 8.0
PAD: Final = 8
ABOUT_CELLS: Final = 2.5
FLAT: Final = 0.05
"""Deviation that is not amplified: what is flatter has no structure."""
STEPS: Final = ((2, 30), (1, 30))
"""Cells of the level in cells of CELL_MM, and steps there."""
MOST_STEP: Final = 0.5
STILL: Final = 1e-3
"""Where nothing differs and nothing slopes, nothing moves."""
STEP_CELLS: Final = 1.0
FIELD_CELLS: Final = 0.8
"""Gaussian smoothing of each step and of the field, SD in cells of the level."""


def demons(prior: F32, current: F32) -> F32:
    """A `Displace` without a network."""
    field = np.zeros((3, *current.shape), np.float32)
    fixed, moving = _even(current), _even(prior)
    for shrink, steps in STEPS:
        if min(current.shape) < 4 * shrink:
            continue
        shape = [max(n // shrink, 1) for n in current.shape]
        down = [
            warp.cell_means(n, shrink, -0.5, size)
            for n, size in zip(shape, current.shape, strict=True)
        ]
        up = [
            warp.between((np.arange(size) + 0.5) / shrink - 0.5, n)
            for n, size in zip(shape, current.shape, strict=True)
        ]
        coarse = np.stack([warp.along_axes(part, down) for part in field]) / np.float32(shrink)
        found = _level(warp.along_axes(moving, down), warp.along_axes(fixed, down), coarse, steps)
        more = found - coarse
        field += np.stack([warp.along_axes(part, up) for part in more]) * shrink
    return np.asarray(field * CELL_MM, np.float32)


def _even(image: F32) -> F32:
    mean = warp.smoothed(image, ABOUT_CELLS)
    spread = warp.smoothed((image - mean) ** 2, ABOUT_CELLS)
    return np.asarray((image - mean) / np.sqrt(spread + FLAT**2), np.float32)


def _level(moving: F32, fixed: F32, field: F32, steps: int) -> F32:
    """The field of one level, in its cells."""
    field, ready = field.copy(), warp.Volume(moving)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in fixed.shape), indexing="ij")
    slope = _gradient(fixed)
    for _ in range(steps):
        moved = ready.at(z + field[0], y + field[1], x + field[2]).reshape(fixed.shape)
        off = fixed - moved
        force = (slope + _gradient(moved)) / 2
        step = force * (off / ((force**2).sum(0) + off**2 + STILL))
        step *= np.minimum(1, MOST_STEP / np.maximum(np.sqrt((step**2).sum(0)), 1e-6))
        for k in range(3):
            field[k] = warp.smoothed(field[k] + warp.smoothed(step[k], STEP_CELLS), FIELD_CELLS)
    return field


def _gradient(values: F32) -> F32:
    """[3, z, y, x]: central differences; 0 at the ends."""
    out = np.zeros((3, *values.shape), np.float32)
    out[0, 1:-1] = (values[2:] - values[:-2]) / 2
    out[1, :, 1:-1] = (values[:, 2:] - values[:, :-2]) / 2
    out[2, :, :, 1:-1] = (values[:, :, 2:] - values[:, :, :-2]) / 2
    return out
