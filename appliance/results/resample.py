"""A mask on a grid of its own -> the pixels that it fills on the slices of its series. Pure.

Bodies of findings lie on cubes of 0.8 mm voxels, lungs on a grid of 3 mm; a viewer shows pixels of
the series itself.

Rules.
1. Each slice stands for a cell: the space half way to the slices before and after it along the
   normal, at an end of the series as far outwards as inwards. No place between the first and the
   last slice is in no cell, so no body is lost between two slices, however far they are apart.
2. A mask is a field: 1 at the centre of a voxel that is set, 0 at one that is not, linear between
   them (trilinear). The share of a pixel is the mean of the field over its cell, of samples at most
   a voxel of the mask apart.
3. A body gets the pixels of the highest shares, as many as come nearest to its volume, which is the
   sum of all shares; at least one. So its volume is kept to half a pixel's and what the samples
   miss. The usual rule, every pixel with a share of at least a half, showed a body of 3.7 mm a
   third larger than it was.
4. Of lungs, whose surface is small beside them, a pixel with a share of at least a half is in.

What it costs: of spheres of 6 to 20 mm on slices 0.5 to 2.5 mm apart with pixels of 0.5 to
0.9 mm, over 25 sub-voxel shifts of each, the volume is off that of the mask by 0.2 % at the median
and 2.0 % at worst, the centroid by 0.5 mm at worst; of 3.7 mm by 1.2 % and 6.2 %, 0.7 mm. On slices
of 5 mm the volume holds as well (6 mm: 2.4 %), the centroid to 1.6 mm. The test
`test_the_volume_of_a_sphere_is_kept_for_every_shift` prints a smaller table (`pytest -s`). That a
mask of 0.8 mm voxels is itself up to 6 % off a sphere of 6 mm is no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.records import Geometry, Mask

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

HALF = 0.5
FULL = 4095
"""A share of 1: shares are kept as whole numbers, two bytes each."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Where one slice of the series lies."""

    geometry: Geometry
    shape: tuple[int, int]
    """Rows, columns."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a slice stands for along its normal (rule 1), in mm from the slice."""

    below: float
    above: float

    @property
    def thick(self) -> float:
        return self.below + self.above


@dataclass(frozen=True, slots=True)
class Patch:
    """What a mask fills on one slice: `pixels` [rows, columns] lie at `row`, `column` of it."""

    slice: int
    """Index of the slice, in the order that it was given in."""
    row: int
    column: int
    shape: tuple[int, int]
    bits: NDArray[np.uint8]
    """Eight pixels a byte: lungs on a thousand slices would else take 100 MB."""

    @property
    def pixels(self) -> Bool:
        flat = np.unpackbits(self.bits, count=self.shape[0] * self.shape[1])
        return flat.view(np.bool_).reshape(self.shape)


def body(mask: Mask, slices: Sequence[Slice]) -> tuple[Patch, ...]:
    """The pixels of a finding's body (rule 3), of each slice where there are any, in the order of
    `slices`, which may be any.

    ValueError for slices that are not parallel, for fewer than two, and for a mask that lies wholly
    outside of all cells.
    """
    cells = cells_of(slices)
    parts = list(_shares(mask, slices, cells))
    if not parts:
        raise ValueError(f"{mask.name or 'a mask'} lies outside the images of its series")
    pixel = [_pixel_mm3(slices[part.slice], cells[part.slice]) for part in parts]
    mm3_at = np.zeros(FULL + 1, np.float64)
    for part, mm3 in zip(parts, pixel, strict=True):
        mm3_at += mm3 * np.bincount(part.share.ravel(), minlength=FULL + 1)
    volume = float(mm3_at @ np.arange(FULL + 1)) / FULL
    above = np.cumsum(mm3_at[::-1])[::-1] - mm3_at
    level = int(np.flatnonzero(above <= volume)[0])
    return _patches(_chosen(parts, pixel, max(level, 1), volume - float(above[level])))


def _chosen(
    parts: Sequence[_Part], pixel_mm3: Sequence[float], level: int, left_mm3: float
) -> Iterator[tuple[_Part, Bool]]:
    """Rule 3: the pixels above a level, and of those at it so many that nothing is left."""
    some = any((part.share > level).any() for part in parts)
    for part, mm3 in zip(parts, pixel_mm3, strict=True):
        chosen = part.share > level
        at = np.flatnonzero(part.share == level)
        count = max(round(left_mm3 / mm3), 0 if some else 1)
        chosen.ravel()[at[:count]] = True
        left_mm3 -= mm3 * len(at[:count])
        some = some or count > 0
        yield part, chosen


def organ(mask: Mask, slices: Sequence[Slice]) -> tuple[Patch, ...]:
    """The pixels of lungs (rule 4), of each slice where there are any.

    ValueError for slices that are not parallel, and for fewer than two.
    """
    cells = cells_of(slices)
    return _patches((part, part.share >= HALF * FULL) for part in _shares(mask, slices, cells))


def cells_of(slices: Sequence[Slice]) -> tuple[Cell, ...]:
    """The cell of each slice (rule 1)."""
    if len(slices) < 2:
        raise ValueError("one slice alone says nothing of its thickness")
    normal = normal_of(slices[0].geometry)
    if any(normal_of(one.geometry) @ normal < 1 - plan.WHOLE for one in slices):
        raise ValueError("the slices are not parallel")
    height = np.array([one.geometry.position_lps_mm for one in slices], np.float64) @ normal
    order = np.argsort(height, kind="stable")
    halves = np.diff(height[order]) / 2
    below, above = np.empty(len(slices)), np.empty(len(slices))
    below[order] = np.concatenate([halves[:1], halves])
    above[order] = np.concatenate([halves, halves[-1:]])
    return tuple(Cell(float(a), float(b)) for a, b in zip(below, above, strict=True))


def normal_of(geometry: Geometry) -> F64:
    """Unit vector from a slice to the next one, by its row and column."""
    return np.asarray(np.cross(geometry.row_lps, geometry.column_lps))


@dataclass(frozen=True, slots=True)
class _Part:
    """Shares (rule 2) of the pixels of one slice that a mask may fill."""

    slice: int
    row: int
    column: int
    share: NDArray[np.uint16]
    """Of FULL, rounded up: what has any has at least 1."""


def _shares(mask: Mask, slices: Sequence[Slice], cells: Sequence[Cell]) -> Iterator[_Part]:
    """Slice by slice, so that no volume is held."""
    box = plan.box_of_mask(mask, 0)
    inside = tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))
    # nothing of the field lies further out than one voxel; the second one is for the interpolation
    field = np.pad(mask.voxels[inside].astype(np.float32), 2)
    low = np.asarray(box.low, np.float64) - 2
    to_index: F64 = np.asarray(np.linalg.inv(mask.grid.to_lps[:3, :3]), np.float64)
    ends = np.stack([box.low, np.asarray(box.high) - 1]) + np.array([[-1.0], [1.0]])
    corners = plan.to_lps(
        mask.grid, np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
    )
    for number, (one, cell) in enumerate(zip(slices, cells, strict=True)):
        window = _window(corners, one, cell)
        if window is None:
            continue
        rows, columns = window
        start = plan.to_index(mask.grid, one.geometry.position_lps_mm) - low
        steps = _steps(one.geometry, to_index)
        share = _mean(field, start, steps, (rows, columns), cell, mask.grid.spacing_mm)
        if share.any():
            share = np.minimum(np.ceil(share * FULL), FULL)
            yield _Part(number, rows.start, columns.start, share.astype(np.uint16))


def _window(corners: F64, one: Slice, cell: Cell) -> tuple[range, range] | None:
    """The rows and columns of a slice that the box with these corners (LPS) may touch."""
    geometry = one.geometry
    away = corners - np.asarray(geometry.position_lps_mm)
    height = away @ normal_of(geometry)
    if height.max() < -cell.below or height.min() > cell.above:
        return None
    found = []
    directions = (geometry.column_lps, geometry.row_lps)
    for direction, spacing, count in zip(directions, geometry.spacing_mm, one.shape, strict=True):
        at = away @ np.asarray(direction) / spacing
        first, last = int(np.floor(at.min() - HALF)), int(np.ceil(at.max() + HALF))
        found.append(range(max(first, 0), min(last + 1, count)))
    rows, columns = found
    return (rows, columns) if rows and columns else None


def _steps(geometry: Geometry, to_index: F64) -> tuple[F64, F64, F64]:
    """How far a row, a column and a millimetre along the normal lead, in voxels of the mask."""
    by_row = to_index @ (np.asarray(geometry.column_lps) * geometry.spacing_mm[0])
    by_column = to_index @ (np.asarray(geometry.row_lps) * geometry.spacing_mm[1])
    return by_row, by_column, to_index @ normal_of(geometry)


def _mean(
    field: F32,
    start: F64,
    steps: tuple[F64, F64, F64],
    window: tuple[range, range],
    cell: Cell,
    spacing_mm: tuple[float, float, float],
) -> F32:
    """Rule 2: the mean of the field over the cell of each pixel of a window."""
    by_row, by_column, by_mm = steps
    finest = min(spacing_mm)
    voxel = np.asarray(spacing_mm)
    lengths = (
        float(np.linalg.norm(by_row * voxel)),
        float(np.linalg.norm(by_column * voxel)),
        cell.thick,
    )
    across, along, through = (_middles(length, finest) for length in lengths)
    rows, columns = (np.asarray(side, np.float64) for side in window)
    total = np.zeros((len(rows), len(columns)), np.float32)
    for h in through * cell.thick + (cell.above - cell.below) / 2:
        for r in across:
            for c in along:
                at = [
                    (start[k] + h * by_mm[k] + (rows + r) * by_row[k])[:, None]
                    + (columns + c) * by_column[k]
                    for k in range(3)
                ]
                total += _linear(field, at)
    return np.asarray(total / (len(across) * len(along) * len(through)), np.float32)


def _middles(length: float, finest: float) -> F64:
    """Middles of equal parts of -0.5..0.5, each of at most `finest` of `length`."""
    count = max(1, int(np.ceil(length / finest - plan.WHOLE)))
    return np.asarray((np.arange(count) + HALF) / count - HALF)


def _linear(field: F32, at: Sequence[F64]) -> F32:
    """The field at fractional indices, linear between voxels; beyond its border, 0 as there."""
    low, part = [], []
    for index, size in zip(at, field.shape, strict=True):
        inside = np.clip(index, 0, size - 1 - plan.WHOLE)
        whole = inside.astype(np.intp)
        low.append(whole)
        part.append((inside - whole).astype(np.float32))
    line = field.ravel()
    _, rows, columns = field.shape
    first = (low[0] * rows + low[1]) * columns + low[2]

    def between(k: int, near: F32, far: F32) -> F32:
        return np.asarray(near + part[k] * (far - near), np.float32)

    def pair(offset: int) -> F32:
        return between(2, line[first + offset], line[first + offset + 1])

    plane = rows * columns
    front = between(1, pair(0), pair(columns))
    back = between(1, pair(plane), pair(plane + columns))
    return between(0, front, back)


def _pixel_mm3(one: Slice, cell: Cell) -> float:
    return one.geometry.spacing_mm[0] * one.geometry.spacing_mm[1] * cell.thick


def _patches(chosen: Iterator[tuple[_Part, Bool]]) -> tuple[Patch, ...]:
    return tuple(
        Patch(
            part.slice,
            part.row,
            part.column,
            (pixels.shape[0], pixels.shape[1]),
            np.packbits(pixels),
        )
        for part, pixels in chosen
        if pixels.any()
    )
