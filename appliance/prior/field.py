"""The place in the earlier exam of every place of today's: an alignment of boxes and a field.

Rules
- A place of CURRENT plus its displacement is a place of the box-aligned PRIOR; the alignment makes
  it a place of PRIOR (LPS mm, each in the frame of its own exam).
- The field stands at CELL_MM on the grid of CURRENT and is linear between its nodes; beyond them
  the nearest one holds.
- It folds where it turns space inside out, or nearly: where the determinant of its Jacobian is at
  or below FOLD. There is no way back from such a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliance.preprocess import plan
from appliance.prior import warp
from appliance.prior.align import Alignment
from appliance.prior.displace import CELL_MM, PAD
from appliance.prior.entry import Image
from appliance.prior.warp import F32, F64
from appliance.records import Grid

FOLD: Final = 0.1
NEAR_MM: Final = 0.01
MOST_STEPS: Final = 50
DAMPED: Final = 0.8


@dataclass(frozen=True, slots=True)
class Field:
    """CURRENT -> PRIOR."""

    alignment: Alignment
    values: F32
    """[3, z, y, x]: mm along z, y, x."""
    grid: Grid
    """Of the nodes, in CURRENT."""

    def to_prior(self, points_lps: ArrayLike) -> F64:
        """Places [n, 3] of CURRENT -> places [n, 3] of PRIOR, LPS mm."""
        points = np.asarray(points_lps, np.float64).reshape(-1, 3)
        return self.alignment.to_prior(points + self._moved(points))

    def to_current(self, points_lps: ArrayLike) -> F64:
        """Places [n, 3] of PRIOR -> places [n, 3] of CURRENT, LPS mm: by a damped fixed point, to
        NEAR_MM where the field does not fold."""
        aligned = self.alignment.to_aligned(np.asarray(points_lps, np.float64).reshape(-1, 3))
        found = aligned.copy()
        for _ in range(MOST_STEPS):
            off = aligned - found - self._moved(found)
            found += DAMPED * off
            if np.abs(off).max(initial=0) < NEAR_MM:
                break
        return np.asarray(found, np.float64)

    def jacobian(self, points_lps: ArrayLike) -> F64:
        """[n, 3, 3] at places of CURRENT: mm of PRIOR (x, y, z) a mm of CURRENT (x, y, z)."""
        points = np.asarray(points_lps, np.float64).reshape(-1, 3)
        half = CELL_MM / 2
        columns = [
            (self.to_prior(points + half * axis) - self.to_prior(points - half * axis)) / CELL_MM
            for axis in np.eye(3)
        ]
        return np.stack(columns, -1)

    def folded(self) -> NDArray[np.bool_]:
        """[z, y, x] of the nodes: where it folds or nearly does."""
        rows = np.stack([np.stack(np.gradient(part, CELL_MM)) for part in self.values])
        jacobian = np.moveaxis(rows, (0, 1), (-2, -1)) + np.eye(3)
        return np.asarray(np.linalg.det(jacobian) <= FOLD)

    def _moved(self, points: F64) -> F64:
        """mm along x, y, z."""
        z, y, x = plan.to_index(self.grid, points).T.astype(np.float32)
        parts = [warp.Volume(part).at(z, y, x) for part in self.values]
        return np.stack(parts[::-1], -1).astype(np.float64)


def nodes(current: Image) -> Grid:
    """The grid of the field over this image: cells of CELL_MM from its first voxel's low edges on,
    their number filled up to a multiple of PAD at the high ends."""
    cells = [CELL_MM / mm for mm in current.grid.spacing_mm]
    counts = [
        -(-int(np.ceil(n / cell)) // PAD) * PAD
        for n, cell in zip(current.values.shape, cells, strict=True)
    ]
    matrix = current.grid.to_lps.copy()
    matrix[:3, :3] = matrix[:3, :3] * np.asarray(cells)
    matrix[:3, 3] = plan.to_lps(current.grid, (np.asarray(cells) - 1) / 2)
    return Grid((counts[0], counts[1], counts[2]), (CELL_MM, CELL_MM, CELL_MM), matrix)


def inputs(prior: Image, current: Image, alignment: Alignment) -> tuple[F32, F32]:
    """What a `Displace` is given: means over the cells of `nodes(current)` of the box-aligned PRIOR
    and of CURRENT, 0 to 1; 0 where an image ends."""
    grid = nodes(current)
    both = []
    for image, scale, shift in (
        (prior, alignment.scale, alignment.shift),
        (current, np.ones(3), np.zeros(3)),
    ):
        matrices = []
        for axis, count in enumerate(grid.shape):
            along = 2 - axis  # LPS axes run x, y, z
            step = image.grid.to_lps[along, axis]
            low = grid.to_lps[along, 3] - CELL_MM / 2
            start = (low * scale[along] + shift[along] - image.grid.to_lps[along, 3]) / step
            cell = CELL_MM * scale[along] / step
            matrices.append(warp.cell_means(count, cell, start, image.values.shape[axis]))
        both.append(warp.along_axes(image.values.astype(np.float32) / np.float32(255), matrices))
    return both[0], both[1]
