"""Stair-steps: a slice, or a block of them, that lies elsewhere than its neighbours; and how much
neighbouring slices differ at all.

`step_mm`: the largest move from one slice to the next, sideways or up and down, less the median
move of the three pairs before and the three after, between the ends of the lungs. Anatomy changes
evenly over such a stretch; a patient who moves does not.

- The move is the shift d that explains best, in the sense of least squares, how the mean HU of the
  columns (rows) of cells change: d = -sum(g * change) / sum(g * g), where g is their slope (Lucas
  and Kanade, IJCAI 1981, in one dimension). A body that grows evenly shifts nothing.
- Across a hole no move is looked at.

Limit: FIRST_MM and PER_MM of each mm between slices, for anatomy changes more over a wider step. In
the shared CTs, and in every second and fourth image of them, the largest move is below it by a
seventh at least, and a slice that lies 4 mm elsewhere is above it (docs/in-room-check.md).
Breathing moves the front of the body alone; it is found where the step is large. The front by
itself is no measure: breasts and the edge of the ribs make steps of 1.5 mm between slices that are
2 mm apart.

`step_hu`: how much the mean HU of a column or row of cells changes from one slice to the next, the
mean of all of them, the median of all pairs but those across a hole. It hangs on the distance of
the slices, on motion and on table feed, and hardly on noise, for it is that of whole lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.records import Pair, SliceFacts

FIRST_MM, PER_MM = 0.9, 0.3
PAIRS: Final = 3
"""So many pairs on each side say what is usual here."""
MOST_MM: Final = 40.0
"""A larger move is none: the slices show different things."""
FEWEST: Final = 5
"""Slices, and cells of a profile."""
HOLE: Final = 1.5
"""Median distances: a wider step between two slices is a hole (series/extent.py)."""

F64 = NDArray[np.float64]


def limit_mm(spacing_mm: float) -> float:
    """From which `step_mm` on it is a flag; spacing_mm: between slices."""
    return FIRST_MM + PER_MM * spacing_mm


def largest(slices: Sequence[SliceFacts], z_mm: F64, within: Pair) -> tuple[float, int] | None:
    """`step_mm`, and the index of the upper one of the two slices. z_mm: of each slice, rising;
    within: the heights between which it is looked for. None of too few slices, and where nothing is
    seen to move."""
    if len(slices) < FEWEST or len({(*one.across.shape, *one.down.shape) for one in slices}) > 1:
        return None
    tall, wide = slices[0].cell_mm
    moves = np.stack(
        [
            _shifts(np.stack([one.across for one in slices]), wide),
            _shifts(np.stack([one.down for one in slices]), tall),
        ]
    )
    rises = np.diff(z_mm)
    moves[:, rises > HOLE * np.median(rises)] = np.nan
    odd = np.abs(moves - _usual(moves))
    odd[:, (z_mm[:-1] < within[0]) | (z_mm[1:] > within[1])] = np.nan
    if not np.isfinite(odd).any():
        return None
    _, pair = np.unravel_index(int(np.nanargmax(odd)), odd.shape)
    return float(np.nanmax(odd)), int(pair) + 1


def typical_hu(slices: Sequence[SliceFacts], z_mm: F64) -> float | None:
    """`step_hu`. z_mm: of each slice, rising; None of too few slices."""
    if len(slices) < FEWEST or len({(*one.across.shape, *one.down.shape) for one in slices}) > 1:
        return None
    lines = np.stack([np.concatenate([one.across, one.down]) for one in slices])
    change = np.abs(np.diff(lines.astype(np.float64), axis=0)).mean(axis=1)
    rises = np.diff(z_mm)
    return float(np.median(change[rises <= HOLE * np.median(rises)]))


def _shifts(profiles: NDArray[np.float32], cell_mm: float) -> F64:
    """[pairs]: by how many mm the second of two neighbouring profiles [slices, cells] lies further
    on; NaN where they have no slope."""
    one, other = profiles[:-1].astype(np.float64), profiles[1:].astype(np.float64)
    if one.shape[1] < FEWEST:
        return np.full(len(one), np.nan)
    slope = np.gradient((one + other) / 2, axis=1)
    power = (slope * slope).sum(axis=1)
    moved = -(slope * (other - one)).sum(axis=1) / np.where(power > 0, power, np.nan)
    moved *= cell_mm
    return np.where(np.abs(moved) <= MOST_MM, moved, np.nan)


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
