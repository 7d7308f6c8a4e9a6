"""Places in the lungs that can be found again: where vessels fork, bend or end.

Rules
- Inside the closed lungs and DEEP_MM from their edge: ribs and heart do not count, because they
  move otherwise, and all chests have them.
- The best of each small cell: brightest against what is about it.
- Of these the most distinct, whose surroundings differ in every direction: along a tube nothing
  says where one is. Distinct is 1 / trace of the inverse structure tensor (Foerstner and Guelch
  1987; in lungs Ruehaak et al. 2017, doi:10.1109/TMI.2017.2691259).
- Well spread: at most PER_CELL of each larger cell, and at most MOST.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.prior import warp
from appliance.prior.entry import Image
from appliance.prior.warp import F32

Index = NDArray[np.int64]

MOST: Final = 400
DEEP_MM: Final = 6.0
BRIGHT: Final = 182
"""Values of an image (0 HU) from which all is equally bright: bone and contrast say no more."""
CORE, ABOUT = 0.8, 2.5
"""SD in voxels of the blurs whose difference is what is bright."""
LEAST: Final = 4.0
"""Difference of values (22 HU) that makes a place bright; noise makes less."""
SMALL_MM, LARGE_MM = 10.0, 20.0
PER_CELL: Final = 3
PATCH: Final = 3
"""Voxels on each side over which the structure tensor is summed."""


def found(image: Image) -> Index:
    """Voxel indices [n, 3] (z, y, x) of the grid of the image, the most distinct first."""
    none = np.zeros((0, 3), np.int64)
    spacing = image.grid.spacing_mm[0]
    deep = inner(image.lungs & image.covered, round(DEEP_MM / spacing))
    if not deep.any():
        return none
    low = np.argwhere(deep).min(0)
    high = np.argwhere(deep).max(0) + 1
    reach = PATCH + 2 * round(ABOUT)
    first = np.maximum(low - reach, 0)
    part = tuple(slice(int(a), int(b) + reach) for a, b in zip(first, high, strict=True))
    values = np.minimum(image.values[part], BRIGHT).astype(np.float32)
    core = warp.smoothed(values, CORE)
    bright = core - warp.smoothed(values, ABOUT)
    bright[~deep[part]] = 0
    places = _best_of_cells(bright, round(SMALL_MM / spacing))
    order = np.argsort(-_distinct(core, places), kind="stable")
    kept = _spread(places[order], round(LARGE_MM / spacing))
    return np.asarray(kept + first, np.int64)


def inner(mask: NDArray[np.bool_], voxels: int) -> NDArray[np.bool_]:
    """What lies more than so many voxels inside, measured along the axes; all beyond is outside."""
    out = mask
    for axis in range(3):
        moved = np.moveaxis(out, axis, 0)
        kept = moved.copy()
        for step in range(1, voxels + 1):
            kept[step:] &= moved[:-step]
            kept[:-step] &= moved[step:]
            kept[:step] = False
            kept[-step:] = False
        out = np.moveaxis(kept, 0, axis)
    return np.ascontiguousarray(out)


def _best_of_cells(bright: F32, side: int) -> Index:
    """The brightest voxel of each cell, where it is brighter than its neighbours."""
    shape = [-(-n // side) * side for n in bright.shape]
    padded = np.zeros(shape, np.float32)
    padded[tuple(slice(n) for n in bright.shape)] = bright
    z, y, x = (n // side for n in shape)
    cells = padded.reshape(z, side, y, side, x, side).transpose(0, 2, 4, 1, 3, 5)
    flat = cells.reshape(z * y * x, -1)
    best = flat.argmax(1)
    there = flat[np.arange(len(flat)), best] >= LEAST
    at = np.stack(np.unravel_index(np.flatnonzero(there), (z, y, x)), -1) * side
    at += np.stack(np.unravel_index(best[there], (side, side, side)), -1)
    edge = np.all((at > PATCH) & (at < np.array(bright.shape) - PATCH - 1), axis=1)
    at = at[edge]
    about = _patches(bright, at, 1)
    return np.asarray(at[about.reshape(len(at), 27).argmax(1) == 13], np.int64)


def _patches(values: F32, at: Index, reach: int) -> F32:
    """[n, 2 reach + 1, ...] around these voxels."""
    steps = np.arange(-reach, reach + 1)
    z, y, x = (at[:, k, None] + steps for k in range(3))
    found = values[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
    return np.asarray(found, np.float32)


def _distinct(core: F32, at: Index) -> F32:
    patch = _patches(core, at, PATCH + 1)
    inside = slice(1, -1)
    slope = [
        patch[:, 2:, inside, inside] - patch[:, :-2, inside, inside],
        patch[:, inside, 2:, inside] - patch[:, inside, :-2, inside],
        patch[:, inside, inside, 2:] - patch[:, inside, inside, :-2],
    ]
    tensor = np.empty((len(at), 3, 3))
    for i in range(3):
        for j in range(3):
            tensor[:, i, j] = (slope[i] * slope[j]).sum((1, 2, 3))
    tensor += 1e-3 * np.eye(3)
    inverse = np.linalg.inv(tensor)
    return np.asarray(1 / np.trace(inverse, axis1=1, axis2=2), np.float32)


def _spread(places: Index, side: int) -> Index:
    """The first PER_CELL of each cell, at most MOST; first the first of all cells."""
    cells = places // side
    key = (cells[:, 0] * 4096 + cells[:, 1]) * 4096 + cells[:, 2]
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    start = np.r_[True, ordered[1:] != ordered[:-1]]
    since = np.arange(len(key)) - np.maximum.accumulate(np.where(start, np.arange(len(key)), 0))
    rank = np.empty(len(key), np.int64)
    rank[order] = since
    chosen = np.lexsort((np.arange(len(key)), rank))
    return places[chosen[: int((rank < PER_CELL).sum())][:MOST]]
