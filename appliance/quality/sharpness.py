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
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Edges:
    """Medians of one slice, HU/mm; None where it shows too few edges."""

    skin: float | None
    lung: float | None


def of_slice(hu: F32, spacing_mm: Pair, cell: tuple[int, int], front: Bool, deep: Bool) -> Edges:
    """hu: [y, x], the scanner's own pixels; cell: height and width in pixels of the cells of
    front and deep [cells], where edges of the skin and of the lungs are looked for."""
    dy, dx = spacing_mm
    skin, lung = [], []
    for lines, along, across, size, at in (
        (hu, dx, dy, cell, (front, deep)),
        (hu.T, dy, dx, cell[::-1], (front.T, deep.T)),
    ):
        step = max(1, round(LINE_MM / across))
        near = _Lines(lines, step, along, across, size)
        skin.append(near.steepness(SKIN_HU, at[0]))
        lung.append(near.steepness(LUNG_HU, at[1]))
    return Edges(_median(skin, FEWEST_SKIN), _median(lung, FEWEST_LUNG))


class _Lines:
    """Every so many lines of an image, each with its neighbours."""

    def __init__(
        self, image: F32, step: int, along: float, across: float, cell: tuple[int, int]
    ) -> None:
        self.at = np.arange(step, len(image) - 1, step)
        self.image, self.along, self.across, self.cell = image, along, across, cell
        self.lines = image[self.at]

    def steepness(self, level: float, where: Bool) -> F32:
        """[edges]: at all edges of this level in these cells, HU/mm."""
        low = self.lines < level
        row, column = np.divmod(np.flatnonzero(low[:, :-1] != low[:, 1:]), self.lines.shape[1] - 1)
        y, x = self.at[row] // self.cell[0], column // self.cell[1]
        inside = (y < where.shape[0]) & (x < where.shape[1])
        inside[inside] = where[y[inside], x[inside]]
        row, column = row[inside], column[inside]
        one, other = self.lines[row, column], self.lines[row, column + 1]
        real = np.minimum(one, other) > LOWEST_HU
        row, column = self.at[row[real]], column[real]
        rise = (other[real] - one[real]) / self.along
        image = self.image
        before = image[row - 1, column] + image[row - 1, column + 1]
        after = image[row + 1, column] + image[row + 1, column + 1]
        return np.asarray(np.hypot(rise, (after - before) / (4 * self.across)), np.float32)


def _median(parts: Sequence[F32], fewest: int) -> float | None:
    found = np.concatenate(parts)
    return None if len(found) < fewest else float(np.median(found))


def skin(samples: Sequence[Sample]) -> float | None:
    """`skin_hu_per_mm`."""
    return _of_slices([one.skin for one in samples])


def lung_edge(samples: Sequence[Sample]) -> float | None:
    """`lung_edge_hu_per_mm`."""
    return _of_slices([one.lung_edge for one in samples])


def _of_slices(found: Sequence[float | None]) -> float | None:
    known = [one for one in found if one is not None]
    return None if len(known) < FEWEST_SLICES else float(np.median(known))
