"""One slice, while it arrives: what its checks need of it later.

Rules.
1. Every slice: the profile of its middle rows of cells. Cells are squares of whole pixels, about
   CELL_MM wide; of each only the middle row of pixels is read, and HU are cut to air and soft
   tissue, so that metal and fill move nothing.
2. Some slices: where the body is, and blocks of air and tissue. They are those in bands of BAND_MM,
   one band every EVERY_MM along the normal from the origin of the patient's coordinates, so that
   neither the order of arrival nor a resend changes which. A band is at least as wide as slices are
   thick, so none is empty where slices adjoin; EVERY_MM is prime, so that slices with gaps between
   them do not miss one band after the other.
3. Blocks: squares of about BLOCK_MM, one every STEP_MM from the first pixel on. A block of one
   value, or with anything below FILL_HU, is fill: neither air nor tissue.
4. A float32 and an int16 image of equal HU give equal facts.

A slice must cost little, for hundreds may come within a second and the findings wait for the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from appliance.quality import body, hounsfield, noise
from appliance.records import Geometry, Pair, Plane, Sample, SliceFacts

CELL_MM: Final = 2.8
BAND_MM, EVERY_MM = 2.0, 13.0
BLOCK_MM, STEP_MM = 6.0, 20.0
BODY_STEP: Final = 2
"""Cells of twice this side show where the body is."""
MOST_OF_AIR: Final = 12
"""Blocks of air of a slice: so many are enough, and are spread over all of it."""
FEWEST_PIXELS: Final = 4
"""Side of a block, at least: an SD of fewer than 16 pixels says little."""
FILL_HU: Final = -1100
"""Below this is only fill: cut air is -1024 (12 bits), padding mostly -2000 or -2048."""
LOWEST, HIGHEST = -1000, 100

F32 = NDArray[np.float32]
Rows = NDArray[np.int16] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the cells and blocks of an image lie; the same for all slices of a series."""

    cell: tuple[int, int]
    """Height and width of a cell in pixels."""
    cell_mm: Pair
    body: tuple[int, int]
    """Rows and columns of the cells that show where the body is."""
    body_mm: Pair
    block: tuple[int, int]
    """Height and width of a block in pixels, and the steps from one to the next."""
    steps: tuple[int, int]
    at: tuple[NDArray[np.intp], NDArray[np.intp]]
    """[blocks]: row and column of the body's cell in which the middle of each block lies."""


def facts(plane: Plane) -> SliceFacts:
    """What one slice says of its own quality."""
    layout = _layout(plane.native.shape, plane.geometry.spacing_mm)
    rows = _rows(plane, layout)
    columns = cv2.reduce(rows, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    cells = columns.size // layout.cell[1]
    return SliceFacts(
        across=cv2.resize(columns, (cells, 1), interpolation=cv2.INTER_AREA)[0],
        down=cv2.reduce(rows, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel(),
        cell_mm=layout.cell_mm,
        sample=sample(plane) if in_band(plane.geometry, plane.header.thickness_mm) else None,
    )


def in_band(geometry: Geometry, thickness_mm: float | None) -> bool:
    """Whether a slice is one of those that are sampled (rule 2)."""
    (ax, ay, az), (bx, by, bz) = geometry.row_lps, geometry.column_lps
    normal = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    height = sum(a * b for a, b in zip(geometry.position_lps_mm, normal, strict=True))
    return height % EVERY_MM < max(BAND_MM, thickness_mm or 0.0)


def sample(plane: Plane) -> Sample:
    """What the body and the blocks of a slice say (rules 2 and 3)."""
    layout = _layout(plane.native.shape, plane.geometry.spacing_mm)
    cells = np.ascontiguousarray(_rows(plane, layout)[::BODY_STEP])
    cells = cv2.resize(cells, layout.body[::-1], interpolation=cv2.INTER_AREA)
    seen = body.seen(cells)
    blocks = _blocks(plane, layout)
    values = blocks.reshape(len(blocks), layout.block[0] * layout.block[1])
    middle = values.mean(axis=1)
    away = values - middle[:, None]
    sd = np.sqrt(np.einsum("ij,ij->i", away, away) / values.shape[1])
    real = (sd > 0) & (values.min(axis=1, initial=0) >= FILL_HU)
    tissue = real & (middle > hounsfield.TISSUE_HU[0]) & (middle < hounsfield.TISSUE_HU[1])
    even = real & (middle > noise.EVEN_HU[0]) & (middle < noise.EVEN_HU[1])
    air = real & (middle < noise.AIR_HU)
    if air.any():
        air &= body.before(seen, layout.body_mm)[layout.at]
    kept = np.flatnonzero(air)
    every = max(1, -(-len(kept) // MOST_OF_AIR))
    air_hu, air_sd = noise.of_air(values[kept[::every]])
    return Sample(
        body_edge=body.on_edge(seen, round_field=_round(plane)),
        tissue_hu=middle[tissue],
        tissue_sd=sd[tissue],
        lagged=noise.lagged(blocks[even], sd[even]),
        air_hu=air_hu,
        air_sd=air_sd,
    )


@lru_cache(maxsize=16)
def _layout(shape: tuple[int, int], spacing_mm: Pair) -> _Layout:
    tall, wide = (
        max(1, min(n, round(CELL_MM / mm))) for n, mm in zip(shape, spacing_mm, strict=True)
    )
    rows, columns = shape[0] // tall, shape[1] // wide
    body_cells = -(-rows // BODY_STEP), -(-columns // BODY_STEP)
    body_mm = (
        tall * BODY_STEP * spacing_mm[0],
        columns * wide / body_cells[1] * spacing_mm[1],
    )
    sizes = [max(FEWEST_PIXELS, round(BLOCK_MM / mm)) for mm in spacing_mm]
    steps = [max(size, round(STEP_MM / mm)) for size, mm in zip(sizes, spacing_mm, strict=True)]
    counts = [
        max(0, (n - size) // step + 1) for n, size, step in zip(shape, sizes, steps, strict=True)
    ]
    middles = np.indices(counts).reshape(2, -1).T * steps + np.array(sizes) // 2
    at = np.minimum((middles * spacing_mm / body_mm).astype(np.intp), np.array(body_cells) - 1)
    return _Layout(
        cell=(tall, wide),
        cell_mm=(tall * spacing_mm[0], wide * spacing_mm[1]),
        body=body_cells,
        body_mm=body_mm,
        block=(sizes[0], sizes[1]),
        steps=(steps[0], steps[1]),
        at=(at[:, 0], at[:, 1]),
    )


def _rows(plane: Plane, layout: _Layout) -> Rows:
    """[rows of cells, x]: HU of the middle row of whole cells, cut to LOWEST..HIGHEST (rule 1)."""
    (tall, wide), (height, width) = layout.cell, plane.native.shape
    whole = plane.native[: height // tall * tall, : width // wide * wide]
    rows: Rows = whole[tall // 2 :: tall]
    return rows.clip(LOWEST, HIGHEST)


def _blocks(plane: Plane, layout: _Layout) -> F32:
    """Blocks [n, y, x] of HU, in the order of `_Layout.at` (rule 3)."""
    if not len(layout.at[0]):
        return np.zeros((0, *layout.block), np.float32)
    windows = sliding_window_view(plane.native, layout.block)
    windows = windows[:: layout.steps[0], :: layout.steps[1]]
    return windows.reshape(-1, *layout.block).astype(np.float32)


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
