"""Where the body is in a slice, and how much of it the field of view cuts off.

`body_edge_percent`: share of the edge of the field of view that shows body, the median over slices.
The edge is the border of the image, or the circle in it where its corners are filled. Body is the
largest thing denser than BODY_HU in a slice (half way between air and soft tissue is about -500;
-300 leaves lung out), with the table where that touches it.

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
LEAST_CELLS: Final = 30
"""About 10 cm2: less is a table, a tube, a hand."""
BEFORE_MM: Final = 15.0
"""So far from the body air is air: no skin, no blanket, no blur."""
MOST_PERCENT: Final = 50.0

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


def seen(cells: F32) -> Bool:
    """[y, x]: the largest thing denser than BODY_HU; empty where it is no body."""
    dense = (cells > BODY_HU).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(dense, connectivity=4)
    sizes = boxes[1:, cv2.CC_STAT_AREA]
    if count < 2 or sizes.max() < LEAST_CELLS:
        return np.zeros(cells.shape, np.bool_)
    return np.asarray(labels == 1 + int(sizes.argmax()))


def before(body: Bool, cell_mm: Pair) -> Bool:
    """[y, x]: air in front of the body: above it in an upright oriented slice, at least BEFORE_MM
    from it. Beside and behind it lie arms, cushions and the table."""
    first = np.where(body.any(axis=0), body.argmax(axis=0), 0).astype(np.float32)
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
