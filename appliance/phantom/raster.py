"""The grid a phantom is drawn on, and how a field becomes a partial volume in it.

Rules of this module: axes are [z, y, x]; steps are (z, y, x) and positions (x, y, z) in LPS
millimetres; a field is positive inside (see `anatomy`).
"""

from __future__ import annotations

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
