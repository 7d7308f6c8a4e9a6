"""Stair-steps: a slice, or a block of them, that lies elsewhere than its neighbours.

`step_mm`: the largest move from one slice to the next, sideways, up or down, or of the front of the
body, less the median move of the three pairs before and the three after. Anatomy changes evenly
over such a stretch; a patient who moves or breathes does not.

- Sideways and up or down: the shift d that explains best, in the sense of least squares, how the
  mean HU of the columns (rows) of cells change: d = -sum(g * change) / sum(g * g), where g is their
  slope (Lucas and Kanade, IJCAI 1981, in one dimension). A body that grows evenly shifts nothing.
- The front of the body: the median over columns of how far it moved: breathing lifts it, while the
  back lies on the table.
- Across a hole no move is looked at.

In the shared CTs the largest move is 1.5 mm; LIMIT_MM is clear of that, and of a shift of 4 mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.records import SliceFacts

LIMIT_MM: Final = 2.5
PAIRS: Final = 3
"""So many pairs on each side say what is usual here."""
FEWEST: Final = 5
"""Slices, and columns of a front."""
HOLE: Final = 1.5
"""Median distances: a wider step between two slices is a hole (series/extent.py)."""

F64 = NDArray[np.float64]


def largest(slices: Sequence[SliceFacts], z_mm: F64) -> tuple[float, int] | None:
    """`step_mm`, and the index of the upper one of the two slices. `z_mm`: of each slice, rising.
    None of too few slices, and where nothing is seen to move."""
    if len(slices) < FEWEST or len({one.across.shape + one.down.shape for one in slices}) > 1:
        return None
    tall, wide = slices[0].cell_mm
    moves = np.stack(
        [
            _shifts(np.stack([one.across for one in slices]), wide),
            _shifts(np.stack([one.down for one in slices]), tall),
            _fronts(np.stack([one.front_mm for one in slices])),
        ]
    )
    rises = np.diff(z_mm)
    moves[:, rises > HOLE * np.median(rises)] = np.nan
    odd = np.abs(moves - _usual(moves))
    if not np.isfinite(odd).any():
        return None
    _, pair = np.unravel_index(int(np.nanargmax(odd)), odd.shape)
    return float(np.nanmax(odd)), int(pair) + 1


def _shifts(profiles: NDArray[np.float32], cell_mm: float) -> F64:
    """[pairs]: by how many mm the second of two neighbouring profiles [slices, cells] lies further
    on; NaN where they have no slope."""
    one, other = profiles[:-1].astype(np.float64), profiles[1:].astype(np.float64)
    if one.shape[1] < FEWEST:
        return np.full(len(one), np.nan)
    slope = np.gradient((one + other) / 2, axis=1)
    power = (slope * slope).sum(axis=1)
    moved = -(slope * (other - one)).sum(axis=1) / np.where(power > 0, power, np.nan)
    return np.asarray(moved * cell_mm)


def _fronts(fronts: NDArray[np.float32]) -> F64:
    """[pairs]: median move of the front, mm [slices, columns]; NaN where too little of it is
    seen."""
    moved = (fronts[1:] - fronts[:-1]).astype(np.float64)
    enough = np.isfinite(moved).sum(axis=1) >= FEWEST
    found = np.full(len(moved), np.nan)
    found[enough] = np.nanmedian(moved[enough], axis=1)
    return found


def _usual(moves: F64) -> F64:
    """[kinds, pairs]: the median move of the PAIRS pairs before and after each; NaN where fewer
    than two are known."""
    kinds, pairs = moves.shape
    padded = np.pad(moves, ((0, 0), (PAIRS, PAIRS)), constant_values=np.nan)
    offsets = [k for k in range(2 * PAIRS + 1) if k != PAIRS]
    around = np.stack([padded[:, k : k + pairs] for k in offsets])
    known = np.isfinite(around).sum(axis=0) >= 2
    found = np.full((kinds, pairs), np.nan)
    found[known] = np.nanmedian(around[:, known], axis=0)
    return found
