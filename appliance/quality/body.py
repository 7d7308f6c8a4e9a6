"""Where the body is in a slice, how large it is, and how much of it the field of view cuts off.

`body_edge_percent`: share of the edge of the field of view that shows body, the median over slices.
The edge is the border of the image, or the circle in it where its corners are filled. Body is the
largest thing denser than BODY_HU in a slice (half way between air and soft tissue is about -500;
-300 leaves lung out), with the table where that touches it.

`diameter_mm`: water-equivalent diameter, the median of the slices: the circle of water that weakens
X-rays as the body does, 2 * sqrt((mean HU / 1000 + 1) * area / pi) over the body with all that lies
in it (AAPM report 220, equations 3 and 4). Where the field of view cuts the body it is that of what
is shown.
`metal_share`: share of the body that is denser than METAL_HU, of all slices together. Bone stays
below 2000; a scanner of 12 bits cuts at 3071.

A field of view for the lungs cuts arms and skin on purpose, so a body on the edge is a flag only
where it is on more than half of it (MOST_PERCENT): in the eight shared CTs it is at most 28 %.
Lungs on the edge are a flag by themselves (lungs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.records import Pair, Sample

BODY_HU: Final = -300.0
LEAST_CELLS: Final = 57
"""About 10 cm2: less is a table, a tube, a hand."""
METAL_HU: Final = 2500.0
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
"""HU beyond are fill or reckoning (12 bits)."""
BEFORE_MM: Final = 15.0
"""So far from the body air is air: no skin, no blanket, no blur."""
SKIN_MM: Final = 8.0
"""So far on both sides of the outline, which is known to a cell, the skin is looked for."""
EDGE_CELLS: Final = 2
MOST_PERCENT: Final = 50.0

F32 = NDArray[np.float32]
Hu = NDArray[np.int16] | NDArray[np.float32]
Bool = NDArray[np.bool_]


def seen(cells: F32) -> Bool:
    """[y, x]: the largest thing denser than BODY_HU; empty where it is no body."""
    dense = (cells > BODY_HU).astype(np.uint8)
    _, labels = cv2.connectedComponents(dense, connectivity=4)
    sizes = np.bincount(labels.ravel())[1:]
    if not len(sizes) or sizes.max() < LEAST_CELLS:
        return np.zeros(cells.shape, np.bool_)
    return np.asarray(labels == 1 + int(sizes.argmax()))


def whole(body: Bool) -> Bool:
    """[y, x]: the body with the lungs and all other holes in it."""
    around = np.zeros((body.shape[0] + 2, body.shape[1] + 2), np.uint8)
    around[1:-1, 1:-1] = body
    cv2.floodFill(around, None, (0, 0), 2)
    return np.asarray(around[1:-1, 1:-1] != 2)


def shrunk(inside: Bool, mm: float, cell_mm: Pair) -> Bool:
    """[y, x]: what lies so far inside, a whole number of cells; beyond the image lies nothing."""
    around = np.ones([2 * max(1, round(mm / side)) + 1 for side in cell_mm], np.uint8)
    kept = cv2.erode(inside.view(np.uint8), around, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(kept).view(np.bool_)


def front(inside: Bool, cell_mm: Pair, *, round_field: bool) -> Bool:
    """[y, x]: around the outline of the whole body, above its middle, away from the edge of the
    field of view."""
    area = inside.sum(axis=1)
    if not area.any():
        return inside
    band = shrunk(~inside, SKIN_MM, cell_mm) | shrunk(inside, SKIN_MM, cell_mm)
    band = ~band & _within(inside.shape[0], inside.shape[1], round_field)
    band[int(area @ np.arange(len(area)) // area.sum()) :] = False
    return band


@lru_cache(maxsize=8)
def _within(rows: int, columns: int, round_field: bool) -> Bool:
    """The cells that do not lie at the edge of the field of view."""
    inside = np.zeros((rows, columns), np.bool_)
    inside[EDGE_CELLS:-EDGE_CELLS, EDGE_CELLS:-EDGE_CELLS] = True
    if round_field:
        y, x = np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2
        inside &= np.hypot(y[:, None], x[None, :]) <= min(rows, columns) / 2 - EDGE_CELLS
    return inside


def water_mm(cells: F32, inside: Bool, cell_mm: Pair) -> float:
    """Water-equivalent diameter of one slice; cells: mean HU, inside: the whole body."""
    hu = np.clip(cells[inside], LOWEST_HU, HIGHEST_HU).astype(np.float64)
    area = float((hu / 1000 + 1).sum()) * cell_mm[0] * cell_mm[1]
    return 2 * float(np.sqrt(max(0.0, area) / np.pi))


def metal_pixels(hu: Hu, inside: Bool, cell: tuple[int, int]) -> int:
    """Pixels [y, x] of metal in the cells of the whole body; cell: height and width in pixels."""
    if hu.max() <= METAL_HU:
        return 0
    row, column = np.divmod(np.flatnonzero(hu > METAL_HU), hu.shape[1])
    y, x = row // cell[0], column // cell[1]
    known = (y < inside.shape[0]) & (x < inside.shape[1])
    return int(inside[y[known], x[known]].sum())


def before(body: Bool, cell_mm: Pair) -> Bool:
    """[y, x]: air in front of the body: above it in an upright oriented slice, at least BEFORE_MM
    from it. Beside and behind it lie arms, cushions and the table."""
    first = body.argmax(axis=0).astype(np.float32)  # 0, too, where there is no body
    reach = [max(1, round(BEFORE_MM / mm)) for mm in cell_mm]
    around = np.ones((1, 2 * reach[1] + 1), np.uint8)
    nearest = cv2.erode(first[None], around, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(np.arange(len(body))[:, None] < nearest - reach[0])


def on_edge(body: Bool, *, round_field: bool) -> float | None:
    """Share of the edge of the field of view that shows body; None where no body is seen."""
    if not body.any():
        return None
    return float(body[_edge(body.shape[0], body.shape[1], round_field)].mean())


@lru_cache(maxsize=8)
def _edge(rows: int, columns: int, round_field: bool) -> Bool:
    """The cells of the edge: the outermost ones, or the outermost that are wholly in the circle."""
    edge = np.zeros((rows, columns), np.bool_)
    if not round_field or min(rows, columns) < 8:
        edge[[0, -1]] = True
        edge[:, [0, -1]] = True
        return edge
    y, x = np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2
    away = np.hypot(y[:, None], x[None, :])
    radius = min(rows, columns) / 2 - 1.5
    return np.asarray((away <= radius) & (away > radius - 1.2))


def edge_percent(samples: Sequence[Sample]) -> float | None:
    """`body_edge_percent` of a series."""
    shares = [one.body_edge for one in samples if one.body_edge is not None]
    return None if not shares else 100 * float(np.median(shares))


def diameter_mm(samples: Sequence[Sample]) -> float | None:
    """`diameter_mm` of a series."""
    found = [one.water_mm for one in samples if one.water_mm is not None]
    return None if not found else float(np.median(found))


def metal_share(samples: Sequence[Sample]) -> float | None:
    """`metal_share` of a series."""
    area = sum(one.body_mm2 for one in samples)
    return sum(one.metal_mm2 for one in samples) / area if area > 0 else None
