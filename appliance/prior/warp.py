"""Values of a volume between its voxels, and one grid's values on another.

Rules
- Volumes are [z, y, x], places are fractional voxel indices (z, y, x); voxel centres are whole
  numbers. Outside of a volume its nearest voxel holds.
- OpenCV interpolates: it knows planes alone, so slices stand beside one another in one picture, and
  each place takes two of them. It divides a voxel into 32 steps, which is 0.06 mm at 2 mm.
- What goes from grid to grid along the axes is a product of three small matrices, one an axis. No
  product is so large that OpenBLAS shares it out among threads: these wait for one another without
  sleeping, and on a busy machine a step then takes many times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_SIDE: Final = 32000
"""Pixels: no picture that OpenCV samples, or makes so, may have a side of 32767 or more."""
_ROW: Final = 4096
SHARED_OUT: Final = 1 << 19
"""Multiplications from which on OpenBLAS takes a second thread."""


class Volume:
    """A volume made ready to be sampled."""

    def __init__(self, values: NDArray[np.generic]) -> None:
        """`values` [z, y, x], of any kind of number; ValueError where it is empty or too large."""
        if 0 in values.shape:
            raise ValueError("an empty volume has no values to sample")
        depth, height, width = values.shape
        self.shape = (depth, height, width)
        tall = max(1, min(depth, _SIDE // height))
        across = -(-depth // tall)
        if max(across * width, height) > _SIDE:
            raise ValueError(f"a volume of {depth} x {height} x {width} is too large to sample")
        self._tall = tall
        self._picture = np.zeros((tall * height, across * width), np.float32)
        for column in range(across):
            part = values[column * tall : (column + 1) * tall]
            at = slice(column * width, (column + 1) * width)
            self._picture[: len(part) * height, at] = part.reshape(-1, width)

    def at(self, z: F32, y: F32, x: F32) -> F32:
        """Trilinear values at these places: float32 of their shape."""
        depth = self.shape[0]
        z, y, x = (
            np.clip(np.asarray(v, np.float32), 0, n - 1).ravel()
            for v, n in zip((z, y, x), self.shape, strict=True)
        )
        low = np.minimum(z.astype(np.int32), max(depth - 2, 0))
        high = np.minimum(low + 1, depth - 1)
        part = z - low
        below = self._plane(low, y, x)
        if depth == 1:
            return below
        return np.asarray(below + part * (self._plane(high, y, x) - below), np.float32)

    def _plane(self, k: NDArray[np.int32], y: F32, x: F32) -> F32:
        _, height, width = self.shape
        down = ((k % self._tall) * height + y).astype(np.float32)
        right = ((k // self._tall) * width + x).astype(np.float32)
        out = np.empty(len(down), np.float32)
        for start in range(0, len(out), _ROW * _ROW):
            piece = slice(start, start + _ROW * _ROW)
            out[piece] = _remapped(self._picture, right[piece], down[piece])
        return out


def _remapped(picture: F32, right: F32, down: F32) -> F32:
    rows = -(-len(right) // _ROW)
    maps = np.zeros((2, rows * _ROW), np.float32)
    maps[0, : len(right)], maps[1, : len(down)] = right, down
    x, y = maps.reshape(2, rows, _ROW)
    found = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found.ravel()[: len(right)], np.float32)


def cell_means(count: int, cell: float, start: float, source: int) -> F32:
    """Matrix [count, source]: means of a row of `source` voxels over `count` cells of `cell` voxels
    that begin at voxel index `start` (the low edge of voxel 0 is -0.5). Outside of the row is 0."""
    low = start + np.arange(count)[:, None] * cell
    edge = np.arange(source)[None, :] - 0.5
    overlap = np.minimum(low + cell, edge + 1) - np.maximum(low, edge)
    return np.asarray(np.clip(overlap, 0, None) / cell, np.float32)


def between(at: ArrayLike, source: int) -> F32:
    """Matrix [len(at), source]: linear interpolation in a row of voxels at these indices; the ends
    of the row go on."""
    places = np.clip(np.asarray(at, np.float64), 0, source - 1)
    return np.asarray(np.clip(1 - np.abs(places[:, None] - np.arange(source)), 0, None), np.float32)


def along_axes(values: F32, matrices: Sequence[F32]) -> F32:
    """[z, y, x] times one matrix [new, old] an axis."""
    for axis in (0, 1, 2):
        moved = np.moveaxis(values, axis, 0)
        flat = product(matrices[axis], moved.reshape(moved.shape[0], -1))
        values = np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(values, np.float32)


def product(a: F32, b: F32) -> F32:
    """a [n, k] times b [k, m], piece by piece (rules)."""
    piece = max(SHARED_OUT // (2 * a.size), 1)
    out = np.empty((len(a), b.shape[1]), np.float32)
    for start in range(0, b.shape[1], piece):
        part = slice(start, start + piece)
        out[:, part] = a @ b[:, part]
    return out


def smoothed(values: F32, sigma: float) -> F32:
    """[z, y, x], blurred by a Gaussian of so many voxels along each axis; the edges go on."""
    side = 2 * int(np.ceil(3.5 * sigma)) + 1
    line = cv2.getGaussianKernel(side, sigma, cv2.CV_32F)
    one = np.ones(1, np.float32)
    for axis in (0, 1, 2):
        moved = np.ascontiguousarray(np.moveaxis(values, axis, 0), np.float32)
        flat = moved.reshape(len(moved), -1)
        soft = cv2.sepFilter2D(flat, -1, one, line, borderType=cv2.BORDER_REPLICATE)
        values = np.moveaxis(soft.reshape(moved.shape), 0, axis)
    return np.ascontiguousarray(values, np.float32)
