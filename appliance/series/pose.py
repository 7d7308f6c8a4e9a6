"""How the planes of a series lie to each other: names, angles, distances. Pure.

Rules. Places and directions come from Image Position and Orientation alone (PS3.3 C.7.6.2.1.1). The
normal of a series points to the head. No answer depends on the order of the planes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance.records import Header, Plane, Vector

ORIENTATION_RAD = 0.01
"""Two planes that are turned by less lie alike."""
SPACING_RATIO = 0.005
"""Pixel spacings that differ by less are one."""
AXIAL_DEG = 20.0
"""Off the axial plane, at most, for what is still axial."""
BESIDE_MM = 1.0
"""An image further beside the line of the others has another field of view."""
NAMED = 3

Points = NDArray[np.float64]
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def identity(plane: Plane) -> tuple[str, int, str]:
    """What planes are sorted by before anything is judged."""
    return plane.header.sop_instance_uid, plane.frame, plane.digest


def image(header: Header) -> str:
    """How a person finds an image of which no place is known."""
    number = header.instance_number
    return "image" if number is None else f"image {number}"


def name(plane: Plane) -> str:
    """How a person finds the image: its Instance Number, else its place."""
    if plane.header.instance_number is None:
        return f"image at z {plane.geometry.position_lps_mm[2]:.1f} mm"
    return image(plane.header) + (f" frame {plane.frame + 1}" if plane.frame else "")


def names(planes: Sequence[Plane]) -> str:
    """The first NAMED of them, and how many more there are."""
    shown = ", ".join(name(p) for p in planes[:NAMED])
    more = len(planes) - NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def odd(items: Sequence[T], key: Callable[[T], K]) -> tuple[K, list[T]]:
    """The most common value (the lowest of several) and the items that have another."""
    counts = Counter(key(item) for item in items)
    common = min(counts, key=lambda v: (-counts[v], repr(v)))
    return common, [item for item in items if key(item) != common]


def rounded(values: tuple[float, ...], digits: int) -> tuple[float, ...]:
    """To compare by; -0.0 is 0.0."""
    return tuple(round(v, digits) + 0.0 for v in values)


def usual(planes: Sequence[Plane]) -> Plane:
    """One of the planes that are oriented as most of them are."""
    common, _ = odd(planes, _directions)
    return next(p for p in planes if _directions(p) == common)


def _directions(plane: Plane) -> tuple[float, ...]:
    return rounded(plane.geometry.row_lps + plane.geometry.column_lps, 2)


def angle(a: Vector, b: Vector) -> float:
    """Radians; exact for small angles, where arccos is not. Plain Python is 20 times numpy here."""
    (ax, ay, az), (bx, by, bz) = a, b
    across = math.hypot(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    return math.atan2(across, ax * bx + ay * by + az * bz)


def turned_by(plane: Plane, other: Plane) -> float:
    """Radians, of rows or columns, whichever is more."""
    return max(
        angle(plane.geometry.row_lps, other.geometry.row_lps),
        angle(plane.geometry.column_lps, other.geometry.column_lps),
    )


def same_spacing(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two pixel spacings are one within SPACING_RATIO of the other."""
    return all(abs(a - b) <= SPACING_RATIO * b for a, b in zip(one, other, strict=True))


def vector(v: Points) -> Vector:
    """An array of three as a Vector."""
    return (float(v[0]), float(v[1]), float(v[2]))


def normal_of(planes: Sequence[Plane]) -> Points:
    """The median of the planes' normals, a unit vector that points to the head (+z)."""
    rows = np.array([p.geometry.row_lps for p in planes])
    columns = np.array([p.geometry.column_lps for p in planes])
    normals = np.cross(rows, columns)
    side = np.where(normals[:, 2] == 0, normals.sum(axis=1), normals[:, 2])
    normals[side < 0] *= -1
    middle: Points = np.median(normals, axis=0)
    length = float(np.linalg.norm(middle))
    return middle / length if length > 0 else normals[0]


def along(planes: Sequence[Plane], normal: Points) -> Points:
    """mm along the normal, of each plane."""
    points = np.array([p.geometry.position_lps_mm for p in planes], dtype=np.float64)
    distances: Points = points @ normal
    return distances
