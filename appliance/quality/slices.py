"""One slice, while it arrives: what its checks need of it later.

Rules.
1. Every slice: the profile of its middle rows of cells. Cells are squares of whole pixels, about
   CELL_MM wide; of each only the middle row of pixels is read, and HU are cut to air and soft
   tissue, so that metal and fill move nothing.
2. Some slices: where the body is and how large, how sharp it is, and blocks of air and tissue. They
   are those in bands of BAND_MM, one band every EVERY_MM along the normal from the origin of the
   patient's coordinates, so that neither the order of arrival nor a resend changes which. A band is
   at least as wide as slices are thick, so none is empty where slices adjoin; EVERY_MM is prime, so
   that slices with gaps between them do not miss one band after the other.
3. In a sampled slice cells are squares of about BODY_MM, each the mean of its pixels; blocks and
   what is fill: blocks.py.
4. A float32 and an int16 image of equal HU give equal facts.

A slice must cost little, for hundreds may come within a second and the findings wait for the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.quality import blocks, body, hounsfield, lungs, noise, sharpness
from appliance.quality.blocks import Blocks, Places
from appliance.records import Geometry, Pair, Plane, Sample, SliceFacts

CELL_MM: Final = 2.8
BODY_MM: Final = 4.2
BAND_MM, EVERY_MM = 2.0, 13.0
MOST_OF_AIR: Final = 12
"""Quarters of air of a slice: so many are enough, and are spread over all of it."""
AT_ONCE: Final = 22
"""Rows of cells that are averaged in one go: their pixels stay in the processor's cache."""
EDGES_MM: Final = 16.0
"""So far inside the body its edges are those of the lungs."""
LOWEST, HIGHEST = -1000, 100

F32 = NDArray[np.float32]
Hu = NDArray[np.int16] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the cells and blocks of an image lie; the same for all slices of a series."""

    line: tuple[int, int]
    """Height and width in pixels of a cell of the profiles."""
    line_mm: Pair
    cell: tuple[int, int]
    """The same of the cells that show where the body is."""
    cell_mm: Pair
    cells: tuple[int, int]
    """Rows and columns of the latter."""
    blocks: Places
    at: tuple[NDArray[np.intp], NDArray[np.intp]]
    """[quarters]: row and column of the cell in which the middle of each lies."""


def facts(plane: Plane) -> SliceFacts:
    """What one slice says of its own quality."""
    layout = _layout(plane.native.shape, plane.geometry.spacing_mm)
    rows = _rows(plane, layout)
    columns = cv2.reduce(rows, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    cells = columns.size // layout.line[1]
    return SliceFacts(
        across=cv2.resize(columns, (cells, 1), interpolation=cv2.INTER_AREA)[0],
        down=cv2.reduce(rows, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel(),
        cell_mm=layout.line_mm,
        sample=sample(plane) if in_band(plane.geometry, plane.header.thickness_mm) else None,
    )


def in_band(geometry: Geometry, thickness_mm: float | None) -> bool:
    """Whether a slice is one of those that are sampled (rule 2)."""
    return height_mm(geometry) % EVERY_MM < max(BAND_MM, thickness_mm or 0.0)


def height_mm(geometry: Geometry) -> float:
    """Along the slice's own normal from the origin of the patient's coordinates."""
    (ax, ay, az), (bx, by, bz) = geometry.row_lps, geometry.column_lps
    normal = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    return sum(a * b for a, b in zip(geometry.position_lps_mm, normal, strict=True))


def sample(plane: Plane) -> Sample:
    """What the body and the blocks of a slice say (rules 2 and 3)."""
    layout = _layout(plane.native.shape, plane.geometry.spacing_mm)
    hu, cell_mm = plane.native, layout.cell_mm
    cells = _cells(hu, layout)
    round_field = _round(plane)
    seen = body.seen(cells)
    inside = body.whole(seen)
    edges = sharpness.of_slice(
        hu,
        plane.geometry.spacing_mm,
        layout.cell,
        body.front(inside, cell_mm, round_field=round_field),
        body.shrunk(inside, EDGES_MM, cell_mm),
    )
    found = blocks.read(hu, layout.blocks)
    low, high = hounsfield.TISSUE_HU
    tissue = found.quarter_real & (found.quarter_mean > low) & (found.quarter_mean < high)
    low, high = noise.EVEN_HU
    even = found.real & (found.mean > low) & (found.mean < high)
    air_hu, air_sd = _air(found, seen, layout)
    area = cell_mm[0] * cell_mm[1]
    deep = body.shrunk(inside, lungs.DEEP_MM, cell_mm)
    metal = body.metal_pixels(hu, inside, layout.cell)
    return Sample(
        body_edge=body.on_edge(seen, round_field=round_field),
        body_mm2=float(np.count_nonzero(inside)) * area,
        lung_mm2=lungs.cells(cells, deep) * area,
        metal_mm2=metal * plane.geometry.spacing_mm[0] * plane.geometry.spacing_mm[1],
        water_mm=body.water_mm(cells, inside, cell_mm) if inside.any() else None,
        skin=edges.skin,
        lung_edge=edges.lung,
        tissue_cells=hounsfield.counted(cells[body.shrunk(seen, cell_mm[0], cell_mm)]),
        tissue_hu=found.quarter_mean[tissue],
        tissue_sd=found.quarter_sd[tissue],
        power=noise.power(blocks.whole(found, even, layout.blocks), plane.geometry.spacing_mm),
        air_hu=air_hu,
        air_sd=air_sd,
    )


def _air(found: Blocks, seen: NDArray[np.bool_], layout: _Layout) -> tuple[F32, F32]:
    """Median and SD of the quarters of air in front of the body."""
    air = np.flatnonzero(found.quarter_real & (found.quarter_mean < noise.AIR_HU))
    if len(air):
        row, column = layout.at
        air = air[body.before(seen, layout.cell_mm)[row[air], column[air]]]
    every = max(1, -(-len(air) // MOST_OF_AIR))
    return noise.of_air(found.quarter_hu[air[::every]])


@lru_cache(maxsize=16)
def _layout(shape: tuple[int, int], spacing_mm: Pair) -> _Layout:
    line, cell = _side(shape, spacing_mm, CELL_MM), _side(shape, spacing_mm, BODY_MM)
    cells = shape[0] // cell[0], shape[1] // cell[1]
    places = blocks.places(shape, spacing_mm)
    row, column = places.quarters
    return _Layout(
        line=line,
        line_mm=(line[0] * spacing_mm[0], line[1] * spacing_mm[1]),
        cell=cell,
        cell_mm=(cell[0] * spacing_mm[0], cell[1] * spacing_mm[1]),
        cells=cells,
        blocks=places,
        at=(np.minimum(row // cell[0], cells[0] - 1), np.minimum(column // cell[1], cells[1] - 1)),
    )


def _side(shape: tuple[int, int], spacing_mm: Pair, side_mm: float) -> tuple[int, int]:
    """Height and width in pixels of squares of about this side."""
    tall, wide = (
        max(1, min(n, round(side_mm / mm))) for n, mm in zip(shape, spacing_mm, strict=True)
    )
    return tall, wide


def _cells(hu: Hu, layout: _Layout) -> F32:
    """[y, x]: mean HU of the cells that show where the body is."""
    (tall, wide), (rows, columns) = layout.cell, layout.cells
    cells = np.empty((rows, columns), np.float32)
    for first in range(0, rows, AT_ONCE):
        last = min(rows, first + AT_ONCE)
        whole = hu[first * tall : last * tall, : columns * wide].astype(np.float32, copy=False)
        size = columns, last - first
        cells[first:last] = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    return cells


def _rows(plane: Plane, layout: _Layout) -> Hu:
    """[rows of cells, x]: HU of the middle row of whole cells, cut to LOWEST..HIGHEST (rule 1)."""
    (tall, wide), (height, width) = layout.line, plane.native.shape
    whole = plane.native[: height // tall * tall, : width // wide * wide]
    rows: Hu = whole[tall // 2 :: tall]
    return rows.clip(LOWEST, HIGHEST)


def _round(plane: Plane) -> bool:
    """Whether the corners are filled: the field of view is the circle in the image."""
    native = plane.native
    side = max(1, min(native.shape) // 64)
    corners = (
        native[:side, :side],
        native[:side, -side:],
        native[-side:, :side],
        native[-side:, -side:],
    )
    return all(corner.min() == corner.max() for corner in corners)
