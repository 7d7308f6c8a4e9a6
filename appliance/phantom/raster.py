"""The grid a phantom is drawn on, and how a field becomes a partial volume in it.

Rules of this module: axes are [z, y, x]; steps are (z, y, x) and positions (x, y, z) in LPS
millimetres; a field is positive inside (see `anatomy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Grid:
    """The drawn grid: fine slices (several may be averaged into one) of rows x rows pixels."""

    slices: int
    rows: int
    step_mm: tuple[float, float, float]
    origin: Point

    def axis(self, k: int) -> Array:
        """The positions in mm of the voxel centres along z (0), y (1) or x (2)."""
        n = self.slices if k == 0 else self.rows
        return (np.arange(n) * self.step_mm[k] + self.origin[2 - k]).astype(np.float32)


def ramp(field: Array, width: float) -> Array:
    """Occupancy 0..1 of the inside of `field`, with an edge `width` mm wide."""
    out: Array = field * np.float32(1 / width) + np.float32(0.5)
    return np.clip(out, 0, 1, out=out)


def over(image: Array, field: Array, hu: float | Array, width: float) -> None:
    """Paint what lies where `field` is positive."""
    image += ramp(field, width) * (hu - image)


def between(volumes: Sequence[Array], index: npt.NDArray[np.float64]) -> list[Array]:
    """Volumes [z, y, x] at fractional voxel indices [..., 3] (z, y, x): linear between voxels, and
    beyond the border as at it."""
    shape = volumes[0].shape
    flat = np.zeros(index.shape[:-1], np.int64)
    parts = []
    for k, size in enumerate(shape):
        at = np.clip(index[..., k], 0, size - 1)
        low = np.minimum(at.astype(np.int64), size - 2)
        flat = flat * size + low
        parts.append((at - low).astype(np.float32))
    steps = (shape[1] * shape[2], shape[2], 1)
    sources = [np.ascontiguousarray(v).ravel() for v in volumes]
    out = [np.zeros(flat.shape, np.float32) for _ in volumes]
    for corner in range(8):
        ups = [(corner >> k) & 1 for k in range(3)]
        weight = np.ones(flat.shape, np.float32)
        for up, part in zip(ups, parts, strict=True):
            weight *= part if up else 1 - part
        where = flat + sum(step for up, step in zip(ups, steps, strict=True) if up)
        for k, source in enumerate(sources):
            out[k] += weight * source[where]
    return out
