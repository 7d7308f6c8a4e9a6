"""Squares of pixels at fixed places, of which noise, texture, air and tissue are read. Pure.

Rules.
1. A block is a square of about BLOCK_MM, one every STEP_MM from the first pixel on: the same places
   in every slice of a series, whatever arrives first.
2. A block has four quarters of about half its side. What changes over more than a quarter is
   anatomy for an SD; a frequency needs the whole block.
3. A block or quarter of one value, or with anything below FILL_HU, is fill: neither air nor tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from appliance.records import Pair

BLOCK_MM, STEP_MM = 12.0, 20.0
FEWEST_PIXELS: Final = 4
"""Side of a quarter, at least: an SD of fewer than 16 pixels says little."""
FILL_HU: Final = -1100
"""Below this is only fill: cut air is -1024 (12 bits), padding mostly -2000 or -2048."""

F32 = NDArray[np.float32]
Hu = NDArray[np.int16] | NDArray[np.float32]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the blocks of an image lie; the same for all slices of a series."""

    size: tuple[int, int]
    """Height and width of a block in pixels: even numbers."""
    step: tuple[int, int]
    """From one block to the next, in pixels."""
    quarters: tuple[Index, Index]
    """[quarters]: row and column of the pixel in the middle of each."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """What the blocks of one slice hold."""

    mean: F32
    """[blocks]."""
    real: Bool
    """[blocks]: not fill (rule 3)."""
    quarter_hu: F32
    """[quarters, pixels], in the order of `Places.quarters`."""
    quarter_mean: F32
    quarter_sd: F32
    quarter_real: Bool


@lru_cache(maxsize=16)
def places(shape: tuple[int, int], spacing_mm: Pair) -> Places:
    """For an image of this shape (rows, columns) and pixel spacing."""
    half = [max(FEWEST_PIXELS, round(BLOCK_MM / 2 / mm)) for mm in spacing_mm]
    step = [max(2 * side, round(STEP_MM / mm)) for side, mm in zip(half, spacing_mm, strict=True)]
    count = [
        max(0, (n - 2 * side) // by + 1) for n, side, by in zip(shape, half, step, strict=True)
    ]
    row, column, y, x = np.indices((*count, 2, 2)).reshape(4, -1)
    return Places(
        size=(2 * half[0], 2 * half[1]),
        step=(step[0], step[1]),
        quarters=(
            row * step[0] + y * half[0] + half[0] // 2,
            column * step[1] + x * half[1] + half[1] // 2,
        ),
    )


def read(hu: Hu, at: Places) -> Blocks:
    """The blocks of one slice [y, x] of HU."""
    cut = _cut(hu, at)
    parts = cut.astype(np.float32, copy=False)
    pixels = np.float32(parts.shape[1])
    mean = np.einsum("ij->i", parts) / pixels
    away = parts - mean[:, None]
    sd = np.sqrt(np.einsum("ij,ij->i", away, away) / pixels)
    real = sd > 0
    if cut.min(initial=0) < FILL_HU:
        real &= cut.min(axis=1, initial=0) >= FILL_HU
    return Blocks(
        mean=mean.reshape(-1, 4).mean(axis=1),
        real=real.reshape(-1, 4).all(axis=1),
        quarter_hu=parts,
        quarter_mean=mean,
        quarter_sd=sd,
        quarter_real=real,
    )


def _cut(hu: Hu, at: Places) -> Hu:
    """[quarters, pixels] of HU, copied once."""
    (tall, wide), (down, across) = at.size, at.step
    if not len(at.quarters[0]):
        return np.zeros((0, tall // 2 * (wide // 2)), hu.dtype)
    windows = sliding_window_view(hu, at.size)[::down, ::across]
    halves = windows.reshape(*windows.shape[:2], 2, tall // 2, 2, wide // 2)
    return np.asarray(halves.swapaxes(3, 4).reshape(-1, tall // 2 * (wide // 2)))


def whole(found: Blocks, which: Bool, at: Places) -> F32:
    """[blocks, y, x] of HU: those that are chosen, put together again from their quarters."""
    tall, wide = at.size
    parts = found.quarter_hu.reshape(-1, 2, 2, tall // 2, wide // 2)[which]
    return np.asarray(parts.swapaxes(2, 3).reshape(-1, tall, wide))
