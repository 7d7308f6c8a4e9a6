"""Whether a series shows a water phantom, by its content alone.

    planes -> is it one        shows_water
    plane  -> Disc or None     disc

Rules.
1. A slice shows a phantom where its largest dense thing is a round disc in air: LEAST_OVERLAP of
   it and of the circle of its area are the same, it is as large as a phantom is, and it touches no
   edge of the image.
2. It is water: its middle value lies within WATER_HU, hardly anything in it is as dense as bone,
   and but for EVEN_SHARE of it (a bubble) it departs by at most EVEN_HU from a smooth course, which
   a plane and the square of the radius describe. So a wrong scale, cupping and noise leave it a
   phantom: they are to be found, not to be missed. A head has a skull, and no limb and no trunk is
   a circle of one value.
3. A series shows one where the middle slice of all does, and of SAMPLED slices spread over it at
   least LEAST_SHARE, all about as wide. Slices are put in order by place, so the order in which
   they arrive changes nothing.
4. No header is asked: technicians scan a phantom with whatever protocol is at hand.

A phantom with inserts (ACR, Catphan) is none of these: it is refused as before.
Cost: a series that shows none is left after its middle slice, .3 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.records import Pair, Plane

CELL_MM: Final = 3.0
READ_MM: Final = 1.2
"""Of finer pixels not every one is read."""
DENSE_HU: Final = -500.0
"""Half way from air to water."""
DIAMETER_MM: Final = (100.0, 400.0)
"""Phantoms that makers deliver have 160 to 350 mm."""
LEAST_OVERLAP: Final = 0.92
TABLE_CELLS: Final = 5
"""What is thinner than this is table, holder or rim, and cut off."""
RIM_MM: Final = 12.0
"""So much at the edge is not asked whether it is water."""
WATER_HU: Final = 160.0
BONE_HU, BONE_SHARE = 300.0, 0.01
EVEN_HU, EVEN_SHARE = 15.0, 0.1
SAMPLED: Final = 9
LEAST_SHARE: Final = 0.6
SAME_WIDTH: Final = 0.1

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Disc:
    """A round thing of one value in a slice."""

    centre: Pair
    """Row and column of its middle, to about a pixel."""
    diameter_mm: float
    """Of the circle of its area."""


def shows_water(planes: Sequence[Plane]) -> bool:
    """Whether the series of these planes, in any order, shows a water phantom."""
    if not planes:
        return False
    in_order = sorted(planes, key=_place)
    if disc(in_order[len(in_order) // 2]) is None:
        return False
    count = min(SAMPLED, len(in_order))
    at = np.linspace(0, len(in_order) - 1, count).round().astype(int)
    found = [one for i in at if (one := disc(in_order[i])) is not None]
    if len(found) < LEAST_SHARE * count:
        return False
    widths = np.array([one.diameter_mm for one in found])
    return bool(np.ptp(widths) <= SAME_WIDTH * np.median(widths))


def disc(plane: Plane) -> Disc | None:
    """The phantom in a slice, None where it shows none."""
    cells, cell_mm = _cells(plane)
    dense = cv2.morphologyEx(
        (cells > DENSE_HU).astype(np.uint8),
        cv2.MORPH_OPEN,
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (TABLE_CELLS, TABLE_CELLS)),
    )
    count, labels, boxes, middles = cv2.connectedComponentsWithStats(dense, connectivity=4)
    if count < 2:
        return None
    label = 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax())
    left, top, wide, tall, area = (int(n) for n in boxes[label])
    diameter_mm = 2 * float(np.sqrt(area * cell_mm[0] * cell_mm[1] / np.pi))
    inside = left > 0 and top > 0 and left + wide < cells.shape[1] and top + tall < cells.shape[0]
    if not inside or not DIAMETER_MM[0] <= diameter_mm <= DIAMETER_MM[1]:
        return None
    x, y = (float(v) for v in middles[label])
    down = (np.arange(cells.shape[0])[:, None] - y) * cell_mm[0]
    across = (np.arange(cells.shape[1])[None, :] - x) * cell_mm[1]
    away = np.hypot(down, across)
    thing, circle = labels == label, away <= diameter_mm / 2
    if (thing & circle).sum() < LEAST_OVERLAP * (thing | circle).sum():
        return None
    if not _is_water(cells, thing, (down, across, away), diameter_mm):
        return None
    row, column = np.array([y + 0.5, x + 0.5]) * cell_mm / plane.geometry.spacing_mm - 0.5
    return Disc((float(row), float(column)), diameter_mm)


def _is_water(
    cells: F32, thing: NDArray[np.bool_], at: tuple[Any, Any, Any], diameter_mm: float
) -> bool:
    """Rule 2. at: mm down, across and away from the middle, of each cell."""
    down, across, away = at
    whole = cells[thing]
    if (whole > BONE_HU).mean() > BONE_SHARE:
        return False
    inside = away < diameter_mm / 2 - RIM_MM
    values = cv2.blur(cells, (3, 3))[inside]
    middle = float(np.median(values))
    if abs(middle) > WATER_HU:
        return False
    radius = diameter_mm / 2
    course = np.stack(
        [
            np.ones(len(values)),
            np.broadcast_to(down, cells.shape)[inside] / radius,
            np.broadcast_to(across, cells.shape)[inside] / radius,
            np.square(away[inside] / radius),
        ],
        axis=1,
    )
    usual = np.abs(values - middle) < 4 * EVEN_HU
    if usual.mean() < 1 - EVEN_SHARE:
        return False
    fit = np.linalg.lstsq(course[usual], values[usual], rcond=None)[0]
    return bool((np.abs(values - course @ fit) > EVEN_HU).mean() <= EVEN_SHARE)


def _cells(plane: Plane) -> tuple[F32, Pair]:
    """[y, x] of about CELL_MM, mean HU; and the size of a cell."""
    spacing = plane.geometry.spacing_mm
    every = [max(1, int(READ_MM / mm)) for mm in spacing]
    read = plane.native[:: every[0], :: every[1]].astype(np.float32)
    sides = [n * step * mm for n, step, mm in zip(read.shape, every, spacing, strict=True)]
    rows, columns = (max(1, round(side / CELL_MM)) for side in sides)
    cells = cv2.resize(read, (columns, rows), interpolation=cv2.INTER_AREA)
    cell_mm = sides[0] / rows, sides[1] / columns
    return np.asarray(cells, np.float32), cell_mm


def _place(plane: Plane) -> tuple[float, tuple[str, str]]:
    return plane.geometry.position_lps_mm[2], plane.mark
