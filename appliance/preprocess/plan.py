"""Shapes, and the way back to patient millimetres. Numbers only; no pixel is touched here.

Rules.
1. Of the two in-plane index directions, the row index takes the nearest LPS axis that comes first
   in [z, y, x] and the column index the other one; both point to its + side. An axial slice becomes
   [y, x] with +y (back) and +x (left), however the scanner wrote it. Oblique ones keep their angle.
2. Grids are edge-aligned (spec.py): n = max(1, round(N * spacing / target)), halves to even; voxel
   i lies (i + 0.5) * target - 0.5 * spacing millimetres from the centre of the first pixel. Along
   the normal the same with the median distance of the planes; the end planes reach half of it out.
3. Every Grid carries its 4x4 to LPS (PS3.3 C.7.6.2.1.1), so a voxel can always be named in the
   patient. A crop is a sub-grid: it never moves a voxel.
4. An op list reads: rescale, orient (both hold of every Stack), then resample and crop, or patch,
   or cube, then soften, then window, zscore and at most one pad in any order. Anything else is
   refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliance.errors import BundleRefused
from appliance.preprocess.spec import (
    Collimation,
    Crop,
    Cube,
    Display,
    Op,
    Orient,
    Pad,
    Patch,
    Resample,
    Rescale,
    Soften,
    Square,
    Window,
    ZScore,
)
from appliance.records import Box, Geometry, Grid, Mask, Pair, Plane, Stack, Vector

WHOLE = 1e-6
"""Millimetres and voxels nearer than this are the same: the noise of decimal strings and 4x4s."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How to lay a slice onto its nearest LPS axes: swap its axes first, then flip."""

    swap: bool
    flip_rows: bool
    flip_columns: bool


@dataclass(frozen=True, slots=True)
class Steps:
    """An op list, read by rule 4."""

    spacing_mm: Vector | None
    """None: the stack's own spacing."""
    crop: Crop | None
    patch: Patch | None
    cube: Cube | None
    soften: Soften | None
    """None too for one that changes nothing."""
    points: tuple[Window | ZScore | Pad, ...]


def steps(ops: Sequence[Op]) -> Steps:
    """An op list -> Steps. BundleRefused (`bundle_preprocess`) names an op out of its place."""
    read = Steps(None, None, None, None, None, ())
    softened = False
    for op in ops:
        cut = (read.crop, read.patch, read.cube)
        late = softened or bool(read.points) or any(earlier is not None for earlier in cut)
        if isinstance(op, (Rescale, Orient)):
            fits = not late and read.spacing_mm is None
        elif isinstance(op, Resample):
            fits = not late and read.spacing_mm is None and min(op.spacing_mm) > 0
            read = replace(read, spacing_mm=op.spacing_mm)
        elif isinstance(op, Crop):
            fits = not late
            read = replace(read, crop=op)
        elif isinstance(op, Patch):
            fits = not late and read.spacing_mm is None
            read = replace(read, patch=op)
        elif isinstance(op, Cube):
            fits = not late and read.spacing_mm is None
            read = replace(read, cube=op)
        elif isinstance(op, Soften):
            fits = not softened and not read.points
            softened, read = True, replace(read, soften=op if op.sd_mm > 0 else None)
        elif isinstance(op, (Display, Collimation, Square)):
            fits = False
        else:
            fits = not (isinstance(op, Pad) and any(isinstance(p, Pad) for p in read.points))
            fits = fits and not (isinstance(op, Pad) and (read.patch or read.cube))
            fits = fits and not (isinstance(op, Window) and op.high <= op.low)
            read = replace(read, points=(*read.points, op))
        if not fits:
            raise BundleRefused(
                f"preprocess: op {op.op!r} cannot stand here",
                remedy="Order: rescale, orient, resample, crop or patch or cube, soften, window, "
                "zscore, one pad.",
                code="bundle_preprocess",
            )
    return read


def turn_of(geometry: Geometry) -> Turn:
    """Rule 1: which swap and flips bring this slice nearest to its LPS axes."""
    row, column = np.abs(geometry.row_lps), np.abs(geometry.column_lps)
    # max takes the first of equals, so a slice at exactly 45 degrees stays as it is
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    along_row, along_column = max(pairs, key=lambda p: float(row[p[0]] + column[p[1]]))
    rows_flip = geometry.row_lps[along_row] < 0
    columns_flip = geometry.column_lps[along_column] < 0
    if along_row > along_column:
        return Turn(swap=True, flip_rows=rows_flip, flip_columns=columns_flip)
    return Turn(swap=False, flip_rows=columns_flip, flip_columns=rows_flip)


def turned(geometry: Geometry, shape: tuple[int, int], turn: Turn) -> Geometry:
    """The geometry of a slice [rows, columns] of this (old) shape after its turn."""
    position = np.asarray(geometry.position_lps_mm, np.float64)
    row, column = (np.asarray(v, np.float64) for v in (geometry.row_lps, geometry.column_lps))
    rows, columns = shape
    between_rows, between_columns = geometry.spacing_mm
    if turn.swap:
        row, column = column, row
        rows, columns = columns, rows
        between_rows, between_columns = between_columns, between_rows
    if turn.flip_columns:
        position = position + row * ((columns - 1) * between_columns)
        row = -row
    if turn.flip_rows:
        position = position + column * ((rows - 1) * between_rows)
        column = -column
    return Geometry(vector(position), vector(row), vector(column), (between_rows, between_columns))


def orient(
    hu: NDArray[np.int16] | NDArray[np.float32], geometry: Geometry
) -> tuple[NDArray[np.int16] | NDArray[np.float32], Geometry]:
    """Pixels [rows, columns] and their geometry -> the same, laid onto the nearest LPS axes."""
    turn = turn_of(geometry)
    laid = hu.T if turn.swap else hu
    laid = laid[:: -1 if turn.flip_rows else 1, :: -1 if turn.flip_columns else 1]
    return np.ascontiguousarray(laid), turned(geometry, (hu.shape[0], hu.shape[1]), turn)


def count(pixels: int, spacing_mm: float, target_mm: float) -> int:
    """Rule 2: voxels of `target_mm` on an axis of so many pixels."""
    return max(1, round(pixels * spacing_mm / target_mm))


def distance(z_mm: NDArray[np.float64]) -> float:
    """Median distance of planes in rising order; ValueError for fewer than two or a step back."""
    if len(z_mm) < 2:
        raise ValueError("a stack has at least two planes")
    gaps = np.diff(z_mm)
    if not np.all(gaps > 0):
        raise ValueError("planes must be in rising order along the normal")
    return float(np.median(gaps))


def through(z_mm: NDArray[np.float64], target_mm: float) -> NDArray[np.float64]:
    """Centres of the voxels along the normal, in the millimetres of `z_mm`."""
    between = distance(z_mm)
    extent = float(z_mm[-1] - z_mm[0]) + between
    n = max(1, round(extent / target_mm))
    return float(z_mm[0]) - between / 2 + (np.arange(n, dtype=np.float64) + 0.5) * target_mm


def native_spacing(stack: Stack) -> Vector:
    """Median distance of planes, then between rows and between columns, in mm."""
    rows, columns = stack.planes[0].geometry.spacing_mm
    return distance(stack.z_mm), rows, columns


def grid_of(stack: Stack, spacing_mm: Vector | None = None) -> Grid:
    """The canonical grid [z, y, x] of a whole stack at this spacing (None: its own)."""
    target = spacing_mm or native_spacing(stack)
    first = stack.planes[0]
    centres = through(stack.z_mm, target[0])
    rows, columns = first.native.shape
    pixel = first.geometry.spacing_mm
    shape = (len(centres), count(rows, pixel[0], target[1]), count(columns, pixel[1], target[2]))
    axes = np.column_stack(
        [stack.normal_lps, first.geometry.column_lps, first.geometry.row_lps]
    ).astype(np.float64)
    offset = [centres[0] - stack.z_mm[0], (target[1] - pixel[0]) / 2, (target[2] - pixel[1]) / 2]
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.asarray(target)
    matrix[:3, 3] = np.asarray(first.geometry.position_lps_mm) + axes @ np.asarray(offset)
    return Grid(shape, target, matrix)


def sub_grid(grid: Grid, box: Box) -> Grid:
    """The part of a grid that a box names: the same voxels, counted from the box's low corner."""
    matrix = grid.to_lps.copy()
    matrix[:3, 3] = to_lps(grid, box.low)
    shape = (box.high[0] - box.low[0], box.high[1] - box.low[1], box.high[2] - box.low[2])
    return Grid(shape, grid.spacing_mm, matrix)


def to_lps(grid: Grid, index: ArrayLike) -> NDArray[np.float64]:
    """Voxel indices [..., 3] (z, y, x), fractions allowed -> LPS millimetres [..., 3] (x, y, z)."""
    at = np.asarray(index, np.float64)
    return np.asarray(at @ grid.to_lps[:3, :3].T + grid.to_lps[:3, 3])


def to_index(grid: Grid, lps: ArrayLike) -> NDArray[np.float64]:
    """LPS millimetres [..., 3] (x, y, z) -> fractional voxel indices [..., 3] (z, y, x)."""
    away = np.asarray(lps, np.float64) - grid.to_lps[:3, 3]
    return np.asarray(away @ _inverse(grid.to_lps[:3, :3].tobytes()).T)


@lru_cache(maxsize=64)
def _inverse(matrix: bytes) -> NDArray[np.float64]:
    """Of a 3x3. It is asked for at each candidate of a grid, and slower than all that follows."""
    return np.asarray(np.linalg.inv(np.frombuffer(matrix, np.float64).reshape(3, 3)))


def box_of_mask(mask: Mask, margin_mm: float) -> Box:
    """The box around the set voxels of a mask, grown by a margin (in whole voxels, outwards).

    On the mask's own grid and cut to it; ValueError where no voxel is set.
    """
    low, high = [], []
    flat = np.asarray(mask.voxels.any(axis=0))
    along = mask.voxels.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0)
    for there, size, spacing in zip(along, mask.grid.shape, mask.grid.spacing_mm, strict=True):
        hits = np.flatnonzero(there)
        if not len(hits):
            raise ValueError("the mask is empty")
        margin = int(np.ceil(margin_mm / spacing - WHOLE))
        low.append(max(int(hits[0]) - margin, 0))
        high.append(min(int(hits[-1]) + 1 + margin, size))
    return Box(triple(low), triple(high))


def box_on(grid: Grid, box: Box, target: Grid) -> Box:
    """A box of one grid as the whole voxels of another grid that it touches, cut to that grid.

    ValueError where the two do not meet.
    """
    ends = np.stack([box.low, box.high]) - 0.5
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
    there = to_index(target, to_lps(grid, corners)) + 0.5
    low = np.maximum(np.floor(there.min(0) + WHOLE), 0).astype(int)
    high = np.minimum(np.ceil(there.max(0) - WHOLE), target.shape).astype(int)
    if np.any(high <= low):
        raise ValueError("the box lies outside the grid")
    return Box(triple(low), triple(high))


def placed(stack: Stack, read: Steps, crop: tuple[Grid, Box] | None) -> tuple[Grid, Box]:
    """The whole grid that an op list asks for and the box of it that is wanted.

    `crop` is the grid of a mask and the box on it, margin and all; without a crop op it is not
    looked at, with one and without a box it is a ValueError.
    """
    whole = grid_of(stack, read.spacing_mm)
    if read.crop is None:
        return whole, Box((0, 0, 0), whole.shape)
    if crop is None:
        raise ValueError("a crop op needs a box")
    return whole, box_on(crop[0], crop[1], whole)


def voxels(stack: Stack, ops: Sequence[Op], crop: tuple[Grid, Box] | None) -> int:
    """How many voxels an op list makes of a stack, padding included."""
    read = steps(ops)
    whole, box = placed(stack, read, crop)
    multiple = next((p.multiple for p in read.points if isinstance(p, Pad)), 1)
    return math.prod(n + -n % multiple for n in sub_grid(whole, box).shape)


def reach(sd_mm: float, spacing_mm: float) -> int:
    """How many voxels to either side a Gaussian of this SD touches; what lies beyond weighs under
    1e-4 together."""
    return math.ceil(4 * sd_mm / spacing_mm) + 1 if sd_mm > 0 else 0


def to_soften(stack: Stack, ops: Sequence[Op]) -> tuple[tuple[Op, ...], int]:
    """An op list of patches or cubes with a soften op -> what is gathered for it (larger ones, in
    HU), and by how many voxels on every side. ValueError for another list."""
    read = steps(ops)
    cut = read.cube or read.patch
    if read.soften is None or cut is None:
        raise ValueError("these ops soften no patch or cube")
    mm = cut.spacing_mm if isinstance(cut, Cube) else min(native_spacing(stack)[1:])
    more = reach(read.soften.sd_mm, mm)
    # it may be larger than what a manifest may ask for: the copy is not validated
    return (cut.model_copy(update={"size": cut.size + 2 * more}),), more


def centre(plane: Plane) -> NDArray[np.float64]:
    """The middle of a plane, LPS millimetres."""
    rows, columns = plane.native.shape
    between_rows, between_columns = plane.geometry.spacing_mm
    return np.asarray(
        np.asarray(plane.geometry.position_lps_mm)
        + np.asarray(plane.geometry.column_lps) * ((rows - 1) / 2 * between_rows)
        + np.asarray(plane.geometry.row_lps) * ((columns - 1) / 2 * between_columns)
    )


def extent(stack: Stack) -> Pair:
    """Lowest and highest slice centre along z (LPS), millimetres."""
    heights = [float(centre(p)[2]) for p in (stack.planes[0], stack.planes[-1])]
    return min(heights), max(heights)


def field(stack: Stack) -> tuple[float, float, float, float]:
    """The field of view of all slices, to the edges of their pixels: x0, y0, x1, y1 (LPS, mm)."""
    grid = grid_of(stack)
    ends = [np.array([-0.5, n - 0.5]) for n in grid.shape]
    corners = to_lps(grid, np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3))
    (x0, y0), (x1, y1) = corners.min(axis=0)[:2], corners.max(axis=0)[:2]
    return round(float(x0), 2), round(float(y0), 2), round(float(x1), 2), round(float(y1), 2)


def nearest_plane(stack: Stack, lps: ArrayLike) -> int:
    """Index of the plane nearest to a point; of two equally near the lower."""
    away = np.asarray(lps, np.float64) - np.asarray(stack.planes[0].geometry.position_lps_mm)
    height = float(away @ np.asarray(stack.normal_lps)) + float(stack.z_mm[0])
    return int(np.argmin(np.abs(stack.z_mm - height)))


def nearest_pixel(geometry: Geometry, lps: ArrayLike) -> tuple[int, int]:
    """Row and column (floor(v + 0.5), may lie outside) of the pixel nearest to a point."""
    away = np.asarray(lps, np.float64) - np.asarray(geometry.position_lps_mm)
    row = float(away @ np.asarray(geometry.column_lps)) / geometry.spacing_mm[0]
    column = float(away @ np.asarray(geometry.row_lps)) / geometry.spacing_mm[1]
    return int(np.floor(row + 0.5)), int(np.floor(column + 0.5))


def cube_grid(stack: Stack, center: ArrayLike, op: Cube) -> Grid:
    """The grid of a cube around an LPS point: its middle, (size - 1) / 2, is the point."""
    axes = grid_of(stack).to_lps[:3, :3] / np.asarray(native_spacing(stack))
    matrix = np.eye(4)
    matrix[:3, :3] = axes * op.spacing_mm
    matrix[:3, 3] = np.asarray(center, np.float64) - matrix[:3, :3].sum(axis=1) * (op.size - 1) / 2
    return Grid((op.size, op.size, op.size), (op.spacing_mm,) * 3, matrix)


def pair(target_mm: float | Pair) -> Pair:
    """An in-plane target: one figure stands for rows and columns alike."""
    return target_mm if isinstance(target_mm, tuple) else (float(target_mm), float(target_mm))


def vector(values: ArrayLike) -> Vector:
    x, y, z = (float(v) for v in np.asarray(values, np.float64))
    return x, y, z


def triple(values: ArrayLike) -> tuple[int, int, int]:
    z, y, x = (int(v) for v in np.asarray(values))
    return z, y, x
