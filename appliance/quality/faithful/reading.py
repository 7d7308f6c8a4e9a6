"""Contrast and place of a sphere in a tensor, against what they must be.

Rules.
1. What a voxel must hold is reckoned from the sphere alone. The scan's own pixels hold the means of
   the sphere over their boxes; along an axis that shrinks a voxel holds their mean over its own
   box, along one that grows it is linear between the two around its centre (preprocess/spec.py, in
   words). A mean of the sphere itself over the voxel's box would be up to a tenth more: a pixel
   that the voxel cuts through brings what lies beside the voxel, and no resampling can help that.
2. Shift is the displacement in mm by which what must be fits best what is, in least squares over
   the voxels around the sphere, with contrast and background left free.
3. Contrast is then read in the voxels that must hold most of it (FULL), less those that hold none
   (EMPTY), in shares of what they must hold: a window that cuts the sphere's own density shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.quality.faithful.spheres import BACKGROUND_HU, SPHERE_HU, Sphere, share
from appliance.records import Grid, Stack

F64 = NDArray[np.float64]

STEP_MM: Final = 0.05
ROUNDS: Final = 3
FULL: Final = 0.9
EMPTY: Final = 0.005
LEAST: Final = 0.1
"""Of its contrast: what has less is not there, and stands nowhere."""


@dataclass(frozen=True, slots=True)
class Native:
    """The scan's own slices and pixels, in mm along their axes from the first pixel."""

    first_lps_mm: F64
    axes: F64
    """[3, 3]: rows are the normal, the direction of a column, that of a row."""
    centres: tuple[F64, F64, F64]
    spacing_mm: tuple[float, float, float]

    def along(self, lps: F64) -> F64:
        """LPS mm [..., 3] -> mm along the axes."""
        return np.asarray((lps - self.first_lps_mm) @ self.axes.T)


def native(stack: Stack) -> Native:
    """Of a stack."""
    first = stack.planes[0]
    geometry, (rows, columns) = first.geometry, first.native.shape
    return Native(
        np.asarray(geometry.position_lps_mm, np.float64),
        np.array([stack.normal_lps, geometry.column_lps, geometry.row_lps], np.float64),
        (
            np.asarray(stack.z_mm, np.float64),
            np.asarray(np.arange(rows) * geometry.spacing_mm[0], np.float64),
            np.asarray(np.arange(columns) * geometry.spacing_mm[1], np.float64),
        ),
        stack.spacing_mm,
    )


@dataclass(frozen=True, slots=True)
class Read:
    """Of one sphere."""

    contrast: float
    """1: all of it."""
    shift_mm: float


def near(volume: NDArray[np.float32], grid: Grid, sphere: Sphere) -> tuple[F64, F64]:
    """Voxels of a tensor [z, y, x] around a sphere: LPS mm [n, 3], HU [n]; none where the sphere
    does not lie in it whole."""
    inverse = np.linalg.inv(grid.to_lps)
    middle = (inverse @ np.array([*sphere.center_lps_mm, 1.0]))[:3]
    reach = (sphere.diameter_mm / 2) / np.asarray(grid.spacing_mm) + 1.5
    low = np.floor(middle - reach).astype(int)
    high = np.ceil(middle + reach).astype(int) + 1
    if np.any(low < 0) or np.any(high > volume.shape):
        return np.zeros((0, 3)), np.zeros(0)
    index = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 3)
    lps = index @ grid.to_lps[:3, :3].T + grid.to_lps[:3, 3]
    return lps, volume[tuple(index.T)].astype(np.float64)


def read(
    lps: F64,
    hu: F64,
    sphere: Sphere,
    scan: Native,
    voxel_mm: Sequence[float | None],
    free: Sequence[int] = (0, 1, 2),
) -> Read:
    """One sphere from values [n] at places [n, 3]. `voxel_mm`: along the scan's axes the edge of
    what a voxel averages; None where it is linear between the scan's own. `free`: the axes along
    which it may be shifted."""
    at, centre = scan.along(lps), scan.along(np.asarray(sphere.center_lps_mm, np.float64))
    near_it = _Near.of(at, centre, sphere, scan, voxel_mm)
    there = (hu - BACKGROUND_HU) / (SPHERE_HU - BACKGROUND_HU)
    shift = np.zeros(3)
    factor = 0.0
    for _ in range(ROUNDS):
        columns = [near_it.expected(shift), np.ones(len(at))]
        for axis in free:
            step = np.eye(3)[axis] * STEP_MM
            ahead, behind = (near_it.expected(shift + side * step) for side in (1, -1))
            columns.append((ahead - behind) / (2 * STEP_MM))
        fitted = np.linalg.lstsq(np.stack(columns, axis=1), there, rcond=None)[0]
        factor = float(fitted[0])
        if abs(factor) < LEAST:
            return Read(factor, sphere.diameter_mm)
        reach = sphere.diameter_mm / 4
        shift[list(free)] += np.clip(fitted[2:] / factor, -reach, reach)
    must = near_it.expected(shift)
    full, empty = must >= FULL * must.max(), must <= EMPTY
    if not empty.any():
        return Read(factor, float(np.linalg.norm(shift)))
    contrast = (there[full].mean() - there[empty].mean()) / (must[full].mean() - must[empty].mean())
    return Read(float(contrast), float(np.linalg.norm(shift)))


@dataclass(frozen=True, slots=True)
class _Near:
    """The scan's own pixels around a sphere, and what each voxel holds of them."""

    away_mm: F64
    """[pixels, 3]: from the sphere's centre, along the scan's axes."""
    shape: tuple[int, ...]
    weights: tuple[F64, ...]
    """Of each axis [voxels, pixels]."""
    edges_mm: tuple[float, ...]
    diameter_mm: float

    @classmethod
    def of(
        cls, at: F64, centre: F64, sphere: Sphere, scan: Native, voxel_mm: Sequence[float | None]
    ) -> _Near:
        parts, weights = [], []
        for axis, (mm, own) in enumerate(zip(voxel_mm, scan.spacing_mm, strict=True)):
            centres = scan.centres[axis]
            whole = _weights(at[:, axis], centres, own, mm)
            used = np.flatnonzero(whole.any(axis=0))
            parts.append(centres[used] - centre[axis])
            weights.append(whole[:, used])
        away = np.stack(np.meshgrid(*parts, indexing="ij"), axis=-1).reshape(-1, 3)
        shape = tuple(map(len, parts))
        return cls(away, shape, tuple(weights), scan.spacing_mm, sphere.diameter_mm)

    def expected(self, shift: F64) -> F64:
        """Rule 1, of a sphere that is shifted so: [voxels]."""
        pixels = share(self.away_mm - shift, self.edges_mm, self.diameter_mm).reshape(self.shape)
        z, y, x = self.weights
        across = np.einsum("zyx,nx->nzy", pixels, x, optimize=True)
        return np.asarray(np.einsum("nzy,ny,nz->n", across, y, z, optimize=True))


def _weights(at: F64, centres: F64, own_mm: float, voxel_mm: float | None) -> F64:
    """[voxels, pixels] of one axis: shares of a voxel's edge, or linear between two pixels."""
    if voxel_mm is not None and voxel_mm > own_mm:
        middles = (centres[1:] + centres[:-1]) / 2
        edges = np.concatenate([[centres[0] - own_mm / 2], middles, [centres[-1] + own_mm / 2]])
        high = np.minimum(at[:, None] + voxel_mm / 2, edges[1:])
        low = np.maximum(at[:, None] - voxel_mm / 2, edges[:-1])
        common = np.maximum(high - low, 0)
        return np.asarray(common / np.maximum(common.sum(axis=1, keepdims=True), 1e-9))
    weights = np.zeros((len(at), len(centres)))
    inside = np.clip(at, centres[0], centres[-1])
    low = np.clip(np.searchsorted(centres, inside, side="right") - 1, 0, len(centres) - 2)
    part = (inside - centres[low]) / (centres[low + 1] - centres[low])
    weights[np.arange(len(at)), low] = 1 - part
    weights[np.arange(len(at)), low + 1] = part
    return weights
