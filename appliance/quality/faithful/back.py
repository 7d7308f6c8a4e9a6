"""The way back: a tensor read at the scan's own pixels.

Rules. Numbers of ops are undone in reverse; what a window cut off stays cut. A place between voxel
centres is linear between the eight around it, and beyond the outermost centres it is as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess.spec import Pad, Window, ZScore
from appliance.records import Geometry, Grid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STILL = 1e-6
"""An index that changes by less than so many voxels over a whole row does not depend on it."""


def hounsfield(values: F32, points: Sequence[Window | ZScore | Pad]) -> F32:
    """What the ops after resampling made of HU -> HU. Padding keeps whatever it holds."""
    hu = values
    for op in reversed(points):
        if isinstance(op, Window):
            hu = hu * np.float32(op.high - op.low) + np.float32(op.low)
        elif isinstance(op, ZScore):
            hu = hu * np.float32(op.std) + np.float32(op.mean)
    return hu


def places(geometry: Geometry, shape: tuple[int, int]) -> F64:
    """LPS mm [rows, columns, 3] of the pixel centres of a slice (PS3.3 C.7.6.2.1.1)."""
    down = np.asarray(geometry.column_lps) * geometry.spacing_mm[0]
    across = np.asarray(geometry.row_lps) * geometry.spacing_mm[1]
    row, column = np.arange(shape[0])[:, None, None], np.arange(shape[1])[None, :, None]
    return np.asarray(np.asarray(geometry.position_lps_mm) + row * down + column * across)


def pixels(
    volume: F32, grid: Grid, geometry: Geometry, shape: tuple[int, int]
) -> tuple[F32, NDArray[np.bool_]]:
    """A volume [z, y, x] on its grid -> its values at the pixels of a slice [rows, columns], and
    which of them lie in a voxel of it."""
    inverse = np.linalg.inv(grid.to_lps)
    first = inverse @ np.array([*geometry.position_lps_mm, 1.0])
    down = inverse[:3, :3] @ np.asarray(geometry.column_lps) * geometry.spacing_mm[0]
    across = inverse[:3, :3] @ np.asarray(geometry.row_lps) * geometry.spacing_mm[1]
    inside = np.ones(shape, np.bool_)
    corners: list[tuple[tuple[NDArray[np.intp], F32], tuple[NDArray[np.intp], F32]]] = []
    for k, size in enumerate(grid.shape):
        at = first[k] + _along(down[k], shape[0])[:, None] + _along(across[k], shape[1])
        inside &= (at >= -0.5 - STILL) & (at <= size - 0.5 + STILL)
        cut = np.clip(at, 0, size - 1)
        low = np.minimum(np.floor(cut), max(size - 2, 0)).astype(np.intp)
        part = (cut - low).astype(np.float32)
        corners.append(((low, 1 - part), (np.minimum(low + 1, size - 1), part)))
    flat, row = np.ascontiguousarray(volume).reshape(-1), volume.shape[2]
    out = np.zeros(shape, np.float32)
    for (z, wz), (y, wy), (x, wx) in product(*corners):
        out += flat[(z * volume.shape[1] + y) * row + x] * (wz * wy * wx)
    return out, inside


def _along(step: float, count: int) -> F64:
    """How an index changes along a row or column; one figure where it does not."""
    moving = abs(step) * count > STILL
    return np.asarray(step * np.arange(count if moving else 1), np.float64)
