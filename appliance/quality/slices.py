"""One slice, while it arrives: what its checks need of it later.

Rules.
1. Cells: squares of whole pixels, about CELL_MM wide; their mean HU is cut to air and soft tissue,
   so that metal and fill move nothing.
2. Blocks: squares of about BLOCK_MM, one every STEP_MM from the first pixel on. A block of one
   value, or with anything below FILL_HU, is fill: neither air nor tissue.
3. A float32 and an int16 image of equal HU give equal facts.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from appliance.quality import body, hounsfield, noise
from appliance.records import Pair, Plane, SliceFacts

CELL_MM: Final = 2.8
BLOCK_MM, STEP_MM = 6.0, 20.0
BODY_STEP: Final = 2
"""Every second cell shows where the body is."""
MOST_OF_AIR: Final = 12
"""Blocks of air of a slice: so many are enough, and are spread over all of it."""
FEWEST_PIXELS: Final = 4
"""Side of a block, at least: an SD of fewer than 16 pixels says little."""
FILL_HU: Final = -1100
"""Below this is only fill: cut air is -1024 (12 bits), padding mostly -2000 or -2048."""
LOWEST, HIGHEST = -1000.0, 100.0

F32 = NDArray[np.float32]


def facts(plane: Plane) -> SliceFacts:
    """What one slice says of its own quality."""
    cells, cell_mm = _cells(plane)
    coarse = np.ascontiguousarray(cells[::BODY_STEP, ::BODY_STEP])
    coarse_mm = (cell_mm[0] * BODY_STEP, cell_mm[1] * BODY_STEP)
    seen = body.seen(coarse)
    blocks, at = _blocks(plane)
    values = blocks.reshape(len(blocks), blocks.shape[1] * blocks.shape[2])
    middle = values.mean(axis=1)
    sd = values.std(axis=1)
    real = (sd > 0) & (values.min(axis=1, initial=0) >= FILL_HU)
    tissue = real & (middle > hounsfield.TISSUE_HU[0]) & (middle < hounsfield.TISSUE_HU[1])
    even = real & (middle > noise.EVEN_HU[0]) & (middle < noise.EVEN_HU[1])
    air = real & (middle < noise.AIR_HU)
    if air.any():
        rows, columns = (
            np.minimum((at[:, k] * plane.geometry.spacing_mm[k] / coarse_mm[k]).astype(int), n - 1)
            for k, n in enumerate(seen.shape)
        )
        air &= body.before(seen, coarse_mm)[rows, columns]
    kept = np.flatnonzero(air)
    every = max(1, -(-len(kept) // MOST_OF_AIR))
    air_hu, air_sd = noise.of_air(values[kept[::every]])
    return SliceFacts(
        across=cells.mean(axis=0, dtype=np.float32),
        down=cells.mean(axis=1, dtype=np.float32),
        cell_mm=cell_mm,
        body_edge=body.on_edge(seen, round_field=_round(plane)),
        tissue_hu=middle[tissue],
        tissue_sd=sd[tissue],
        lagged=noise.lagged(blocks[even], sd[even]),
        air_hu=air_hu,
        air_sd=air_sd,
    )


def _cells(plane: Plane) -> tuple[F32, Pair]:
    """Mean HU of cells [y, x], cut to LOWEST..HIGHEST (rule 1), and their size in mm."""
    (rows, columns), (dy, dx) = plane.native.shape, plane.geometry.spacing_mm
    tall, wide = (max(1, min(n, round(CELL_MM / mm))) for n, mm in ((rows, dy), (columns, dx)))
    size = columns // wide, rows // tall
    whole = plane.native[: size[1] * tall, : size[0] * wide]
    small = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    return np.clip(small, LOWEST, HIGHEST).astype(np.float32), (tall * dy, wide * dx)


def _blocks(plane: Plane) -> tuple[F32, NDArray[np.intp]]:
    """Blocks [n, y, x] of HU, and the pixel in the middle of each [n, 2] (rule 2)."""
    sizes = [max(FEWEST_PIXELS, round(BLOCK_MM / mm)) for mm in plane.geometry.spacing_mm]
    steps = [
        max(size, round(STEP_MM / mm))
        for size, mm in zip(sizes, plane.geometry.spacing_mm, strict=True)
    ]
    if any(n < size for n, size in zip(plane.native.shape, sizes, strict=True)):
        return np.zeros((0, *sizes), np.float32), np.zeros((0, 2), np.intp)
    windows = sliding_window_view(plane.native, sizes)[:: steps[0], :: steps[1]]
    first = np.indices(windows.shape[:2]).reshape(2, -1).T * steps
    return windows.reshape(-1, *sizes).astype(np.float32), first + np.array(sizes) // 2


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
