"""What a scanner makes of a chest: slices, kernel, noise, contrast and how much it covers.

Rules.
1. Slices of 1 to 5 mm are means over their thickness, put back by linear interpolation: thicker
   than the grid they blur along z alone.
2. A kernel is soft (a Gaussian in plane) or sharp (an unsharp mask), and noise passes through it.
3. Contrast raises what is denser than water; that is coarse, but it tells vessels from muscle.
4. One scan in four is cut: it loses up to a quarter of the lungs at one end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appliance.quality.implant import Axis as Cells
from appliance.quality.implant import box_mean
from training.read.volume import AIR_HU, F32, Bool

CUT_SHARE = 0.25
CUT_MOST = 0.25
"""Of the height of the lungs."""


@dataclass(frozen=True)
class Scan:
    """One exam as it was scanned."""

    hu: F32  # [z, y, x]
    cover: Bool


def scanned(rng: np.random.Generator, hu: F32, cover: Bool, lungs: Bool, grid_mm: float) -> Scan:
    """A chest [z, y, x] at `grid_mm`, scanned; AIR_HU outside of its cover."""
    seen = cut(rng, cover, lungs)
    out = hu
    if rng.random() < 0.3:
        out = np.where(out > 0, out * np.float32(rng.uniform(1.1, 2.0)), out)
    noise = rng.uniform(10, 45) * (1.5 / grid_mm) ** 1.5
    out = out + rng.standard_normal(out.shape, np.float32) * np.float32(noise)
    width = rng.uniform(0.4, 1.2) / grid_mm
    soft = ndimage.gaussian_filter(out, (0, width, width))
    out = soft if rng.random() < 0.6 else out + np.float32(rng.uniform(0.2, 0.8)) * (out - soft)
    thickness = rng.uniform(1, 5)
    if thickness > grid_mm:
        out = sliced(out, grid_mm, thickness)
    out = np.where(seen, np.clip(out, AIR_HU, None), np.float32(AIR_HU))
    return Scan(np.asarray(out, np.float32), seen)


def cut(rng: np.random.Generator, cover: Bool, lungs: Bool) -> Bool:
    """Rule 4."""
    heights = np.flatnonzero(lungs.any((1, 2)))
    if rng.random() >= CUT_SHARE or not len(heights):
        return cover
    lost = round(rng.uniform(0, CUT_MOST) * len(heights))
    seen = cover.copy()
    if rng.random() < 0.5:
        seen[: heights[0] + lost] = False
    else:
        seen[heights[-1] + 1 - lost :] = False
    return np.asarray(seen, np.bool_)


def sliced(hu: F32, grid_mm: float, thickness_mm: float) -> F32:
    """Rule 1: [z, y, x] through slices of a thickness, back on its own grid."""
    n = len(hu)
    slices = max(round(n * grid_mm / thickness_mm), 2)
    cell = n * grid_mm / slices
    means = box_mean(Cells(slices, cell, 0.0), Cells(n, grid_mm, 0.0))
    at = np.clip((np.arange(n) + 0.5) * grid_mm / cell - 0.5, 0, slices - 1)
    low = np.minimum(at.astype(int), slices - 2)
    part = at - low
    back = np.zeros((n, slices), np.float32)
    back[np.arange(n), low], back[np.arange(n), low + 1] = 1 - part, part
    flat = (back @ means) @ hu.reshape(n, -1)
    return np.asarray(flat.reshape(hu.shape), np.float32)
