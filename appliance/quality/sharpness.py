"""How sharp the images are: how steep HU rise at the skin and at the edges in the lungs. Pure.

An edge lies between two neighbouring pixels of which one is above and one below a level: SKIN_HU,
half way between air and skin, or LUNG_HU, half way between lung and soft tissue. Its steepness is
the gradient there in HU/mm, of the scanner's own pixels: along the line the difference of the two
pixels, across it that of the lines beside. Lines are rows and columns every LINE_MM.

- `skin_hu_per_mm`: edges at the front of the body, median of a slice, median of the slices. Back
  and sides lie on the table and under arms; what lies at the edge of the field of view is cut.
- `lung_edge_hu_per_mm`: the same of edges 16 mm inside the outline of the body: walls of the
  chest, the heart and the vessels.

A median of steepness is robust against the noise that one pixel difference has: half the dose moves
both by at most 5 % in the eight shared CTs, a blur of 1 pixel lowers them by a tenth to four tenths
(tests/appliance/quality/test_sharpness.py on made edges). Where a slice shows few edges, nothing is
said of it: an abdomen has skin and no lung edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.records import Pair, Sample

SKIN_HU, LUNG_HU = -500.0, -400.0
LINE_MM: Final = 6.0
FEWEST_SKIN, FEWEST_LUNG = 20, 100
"""Edges of a slice."""
FEWEST_SLICES: Final = 3
LOWEST_HU: Final = -1100.0
"""An edge towards fill is none (blocks.py)."""

F32 = NDArray[np.float32]
Hu = NDArray[np.int16] | NDArray[np.float32]
Index = NDArray[np.intp]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Edges:
    """Medians of one slice, HU/mm; None where it shows too few edges."""

    skin: float | None
    lung: float | None


def of_slice(hu: Hu, spacing_mm: Pair, cell: tuple[int, int], front: Bool, deep: Bool) -> Edges:
    """hu: [y, x], the scanner's own pixels; cell: height and width in pixels of the cells of
    front and deep [cells], where edges of the skin and of the lungs are looked for."""
    skin, lung = [], []
    pixels = hu.ravel()
    for lines in _lines(hu.shape, spacing_mm, cell, front.shape):
        near = hu[lines.window].copy()
        at = lines.edges(near, SKIN_HU, front), lines.edges(near, LUNG_HU, deep)
        found, real = lines.steepness(pixels, np.concatenate(at))
        skin.append(found[: len(at[0])][real[: len(at[0])]])
        lung.append(found[len(at[0]) :][real[len(at[0]) :]])
    return Edges(_median(skin, FEWEST_SKIN), _median(lung, FEWEST_LUNG))


@dataclass(frozen=True, slots=True)
class _Lines:
    """Every so many rows or columns of an image, and where pairs of neighbours on them lie. A pair
    is known by its first pixel."""

    window: tuple[slice, slice]
    """Of the image: the lines, as far as there are whole cells."""
    axis: int
    """Along which a line runs: 0 down, 1 across the image."""
    step: int
    """From line to line, and from the edge of the image to the first one; in pixels."""
    cell: tuple[int, int]
    width: int
    """Of the image."""
    around: Index
    """[6, 1]: from a pixel to the pair, to that on the line before, to that on the line after."""
    along_mm: float
    across_mm: float

    def edges(self, near: Hu, level: float, where: Bool) -> Index:
        """[edges]: place in the flat image of the pairs in these cells between which this level
        lies; near: the window's pixels."""
        low = near < level
        change = low[:-1] != low[1:] if self.axis == 0 else low[:, :-1] != low[:, 1:]
        row, column = np.divmod(np.flatnonzero(change), change.shape[1])
        if self.axis == 0:
            column = self.step * (column + 1)
        else:
            row = self.step * (row + 1)
        inside = where[row // self.cell[0], column // self.cell[1]]
        return np.asarray((row * self.width + column)[inside])

    def steepness(self, pixels: Hu, at: Index) -> tuple[F32, Bool]:
        """[edges] HU/mm at these pairs, and which of them are no edge of fill; pixels: the flat
        image."""
        values = pixels[at + self.around].astype(np.float32, copy=False)
        one, other = values[:2]
        rise = (other - one) / self.along_mm
        before, after = values[2] + values[3], values[4] + values[5]
        steep = np.hypot(rise, (after - before) / (4 * self.across_mm))
        return np.asarray(steep, np.float32), np.minimum(one, other) > LOWEST_HU


@lru_cache(maxsize=16)
def _lines(
    shape: tuple[int, int], spacing_mm: Pair, cell: tuple[int, int], cells: tuple[int, int]
) -> tuple[_Lines, ...]:
    """The rows and the columns that are looked at, of an image [y, x] of whole cells and a rest."""
    found = []
    for axis, (along_mm, across_mm) in ((1, spacing_mm[::-1]), (0, spacing_mm)):
        other, step = 1 - axis, max(1, round(LINE_MM / across_mm))
        lines = slice(step, min(shape[other] - 1, cells[other] * cell[other]), step)
        line = slice(0, min(shape[axis] - 1, cells[axis] * cell[axis]) + 1)
        along, across = (1, shape[1]) if axis == 1 else (shape[1], 1)
        around = [0, along, -across, along - across, across, along + across]
        found.append(
            _Lines(
                window=(lines, line) if axis == 1 else (line, lines),
                axis=axis,
                step=step,
                cell=cell,
                width=shape[1],
                around=np.array(around)[:, None],
                along_mm=along_mm,
                across_mm=across_mm,
            )
        )
    return tuple(found)


def _median(parts: Sequence[F32], fewest: int) -> float | None:
    """numpy.median without its checks, which cost more than the median itself."""
    found = np.concatenate(parts)
    if len(found) < fewest:
        return None
    low, high = (len(found) - 1) // 2, len(found) // 2
    ordered = np.partition(found, (low, high))
    return float((ordered[low] + ordered[high]) / 2)


def skin(samples: Sequence[Sample]) -> float | None:
    """`skin_hu_per_mm`."""
    return _of_slices([one.skin for one in samples])


def lung_edge(samples: Sequence[Sample]) -> float | None:
    """`lung_edge_hu_per_mm`."""
    return _of_slices([one.lung_edge for one in samples])


def _of_slices(found: Sequence[float | None]) -> float | None:
    known = [one for one in found if one is not None]
    return None if len(known) < FEWEST_SLICES else float(np.median(known))
