"""What a shutter and a collimator leave to be seen of a radiograph. Pure.

Rules (PS3.3 C.7.6.11 Display Shutter, C.8.7.3 X-Ray Collimator; both have the same attributes).
Rows and columns count from 1. A rectangle shows its edges and what lies between; a circle what is
at most its radius from the centre; a polygon its vertices and inside. Of several shapes that is
shown which all of them show. Edges may lie outside the image. A shape that is named but not
described, or leaves nothing, is an impossible value.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.series.elements import Elements

SHUTTER, COLLIMATOR = 0x00181600, 0x00181700
_EDGES = {0x2: "Left Vertical", 0x4: "Right Vertical", 0x6: "Upper Horizontal",
          0x8: "Lower Horizontal"}  # fmt: skip
_CENTER, _RADIUS, _VERTICES = 0x10, 0x12, 0x20
TAGS = tuple(
    of + at for of in (SHUTTER, COLLIMATOR) for at in (0x0, *_EDGES, _CENTER, _RADIUS, _VERTICES)
)
_FARTHEST = 1 << 16
Mask = NDArray[np.bool_]


def shown(e: Elements, rows: int, columns: int) -> Mask:
    """[rows, columns]: what is shown. SeriesRefused(INVALID_VALUE) where that is nothing."""
    there = np.ones((rows, columns), np.bool_)
    for of, name in ((SHUTTER, "Shutter"), (COLLIMATOR, "Collimator")):
        for shape in e.texts(of, f"{name} Shape"):
            if shape.upper() == "RECTANGULAR":
                there &= _rectangle(e, of, name, there)
            elif shape.upper() == "CIRCULAR":
                there &= _circle(e, of, name, there)
            elif shape.upper() == "POLYGONAL":
                there &= _polygon(e, of, name, there)
            elif shape:
                raise e.invalid(of, f"{name} Shape", "is unknown")
        if not there.any():
            raise e.invalid(of, f"{name} Shape", "leaves nothing to see")
    return there


def _rectangle(e: Elements, of: int, name: str, like: Mask) -> Mask:
    left, right, upper, lower = (
        _whole(e, of + at, f"{name} {edge} Edge", 1)[0] for at, edge in _EDGES.items()
    )
    inside = np.zeros_like(like)
    inside[max(upper - 1, 0) : max(lower, 0), max(left - 1, 0) : max(right, 0)] = True
    return inside


def _circle(e: Elements, of: int, name: str, like: Mask) -> Mask:
    row, column = _whole(e, of + _CENTER, f"Center of Circular {name}", 2)
    (radius,) = _whole(e, of + _RADIUS, f"Radius of Circular {name}", 1)
    y = np.arange(1, like.shape[0] + 1)[:, None] - row
    x = np.arange(1, like.shape[1] + 1)[None] - column
    return np.asarray(y * y + x * x <= radius * radius)


def _polygon(e: Elements, of: int, name: str, like: Mask) -> Mask:
    tag, called = of + _VERTICES, f"Vertices of the Polygonal {name}"
    count = len(e.texts(tag, called))
    if count < 6 or count % 2:
        raise e.invalid(tag, called, f"has {count} values, not pairs of at least three")
    points = np.array(_whole(e, tag, called, count)).reshape(-1, 2)[:, ::-1] - 1  # x, y from 0
    drawn = np.zeros(like.shape, np.uint8)
    cv2.fillPoly(drawn, [points.astype(np.int32)], 1)
    return drawn.astype(np.bool_)


def _whole(e: Elements, tag: int, name: str, count: int) -> tuple[int, ...]:
    """`count` whole numbers that are there and not absurd."""
    found = e.numbers(tag, name, count)
    if found is None:
        raise e.invalid(tag, name, "is missing")
    if any(v != int(v) or abs(v) > _FARTHEST for v in found):
        raise e.invalid(tag, name, "is no place in an image")
    return tuple(int(v) for v in found)
