"""The images of one series as a viewer shows them: in which order, where in the patient, and in
which planes they may be shown. Pure.

Rules
- Images are in the order of their report, that is feet first (`Facts.images`); without a report by
  their place along the normal, and what has no place after them, by name.
- Coronal and sagittal planes are cut from a stack whose images have one size, one direction and one
  spacing, lie behind each other along their normal (a tilted gantry shifts them sideways) and face
  the head within AXIAL_DEG. Else a word says why not; nothing is straightened here.
- All windows are in HU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from appliance.records import Geometry, Vector
from appliance.report import Record
from appliance.results.capture import WINDOW_HU
from appliance.series.pose import ORIENTATION_RAD, angle, same_spacing
from appliance.web.pixels.asked import Place

AXIAL_DEG = 5.0
"""Further off, a plane cut along rows or columns is neither coronal nor sagittal."""
SHIFT_MM = 1.0
MOST_VOLUME_BYTES = 400 << 20
"""What a browser holds of a series at once."""
No = Literal["few", "sizes", "directions", "oblique", "tilted", "large", "radiograph", "unread"]


class Window(Record):
    """A window preset: black up to `low` HU, white from `high`."""

    name: Literal["lung", "soft", "bone", "whole"]
    low: float
    high: float


WINDOWS = (
    Window(name="lung", low=WINDOW_HU[0], high=WINDOW_HU[1]),
    Window(name="soft", low=-160, high=240),
    Window(name="bone", low=-500, high=1300),
    Window(name="whole", low=-1024, high=3071),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a listing."""

    uid: str
    """SOP Instance UID. It stays on the device."""
    frame: int
    place: Place | None
    error: str | None = None
    """Why there is no place."""

    @property
    def geometry(self) -> Geometry | None:
        """Where it lies; None of a radiograph and of what cannot be read."""
        p = self.place
        if p is None or p.position is None or p.row is None or p.column is None or not p.spacing:
            return None
        return Geometry(p.position, p.row, p.column, p.spacing)

    @property
    def name(self) -> str:
        """As `Facts.images` names a slice."""
        return f"{self.uid}/{self.frame}"


def ordered(frames: Sequence[Frame], names: Sequence[str] | None) -> tuple[Frame, ...]:
    """Rule 1. names: of the images of the report, in its order; None without one."""
    if names:
        by_name = {one.name: one for one in frames} | {
            one.uid: one for one in frames if one.frame == 0
        }
        return tuple(by_name[name] for name in names if name in by_name)
    placed = [(one, g) for one in frames if (g := one.geometry) is not None]
    rest = sorted((one for one in frames if one.geometry is None), key=lambda one: one.name)
    if not placed:
        return tuple(rest)
    normal = _normal(placed[0][1])
    placed.sort(key=lambda pair: (round(_along(pair[1], normal), 3), pair[0].name))
    return (*(one for one, _ in placed), *rest)


def no_planes(frames: Sequence[Frame]) -> No | None:
    """Why there are no coronal and sagittal planes; None where there are."""
    places = [one.place for one in frames]
    if any(place is not None and place.to_stored is not None for place in places):
        return "radiograph"
    geometries = [g for one in frames if (g := one.geometry) is not None]
    if len(geometries) != len(frames):
        return "unread"
    if len(frames) < 3:
        return "few"
    sizes = {(place.rows, place.columns) for place in places if place is not None}
    first = geometries[0]
    if len(sizes) > 1 or not all(same_spacing(g.spacing_mm, first.spacing_mm) for g in geometries):
        return "sizes"
    if any(_turned(g, first) > ORIENTATION_RAD for g in geometries):
        return "directions"
    if _shifted_mm(geometries) > SHIFT_MM:
        return "tilted"
    if not _along_the_axes(first):
        return "oblique"
    ((rows, columns),) = sizes
    return "large" if 2 * rows * columns * len(frames) > MOST_VOLUME_BYTES else None


def _turned(one: Geometry, other: Geometry) -> float:
    return max(angle(one.row_lps, other.row_lps), angle(one.column_lps, other.column_lps))


def _along_the_axes(g: Geometry) -> bool:
    """Whether rows and columns run along x and y of the patient, either way round."""
    least = math.cos(math.radians(AXIAL_DEG))
    straight = abs(g.row_lps[0]) >= least and abs(g.column_lps[1]) >= least
    swapped = abs(g.row_lps[1]) >= least and abs(g.column_lps[0]) >= least
    return straight or swapped


def _shifted_mm(geometries: Sequence[Geometry]) -> float:
    """How far sideways the last image lies from the first one, mm."""
    away = np.subtract(geometries[-1].position_lps_mm, geometries[0].position_lps_mm)
    normal = np.asarray(_normal(geometries[0]))
    return float(np.linalg.norm(away - (away @ normal) * normal))


def _normal(g: Geometry) -> Vector:
    """To the head."""
    x, y, z = np.cross(g.row_lps, g.column_lps).tolist()
    return (x, y, z) if z >= 0 else (-x, -y, -z)


def _along(g: Geometry, normal: Vector) -> float:
    return float(np.dot(g.position_lps_mm, normal))
