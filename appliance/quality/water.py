"""What a water phantom says of its scanner.

    planes in order -> WaterFigures         figures

Rules.
1. Measured are MEASURED slices, spread over those that show the phantom (phantom.py) but the first
   and last of them, which may show its lid. A figure is the median over slices unless said.
2. Water, noise: in the middle, a disc of MIDDLE of the phantom's width (IEC 61223-3-5 takes 40 %
   for noise). Noise is the SD about a smooth course (a plane and the square of the radius), so that
   cupping is no noise.
3. Uniformity: discs of EDGE of the width at 12, 3, 6 and 9 o'clock, whose rim lies EDGE_MM inside
   that of the phantom, less the middle (IEC 61223-3-5: about 1 cm).
4. A bubble is what is by LOW_HU below the water; it is left out of the figures above. An edge of
   which more than half is bubble has none.
5. Air: the median beside the upper half, NEAR_MM to FAR_MM from it: below lies the table. The scale
   is water less air in 1000 HU: an offset leaves it, a wrong slope moves it.
6. Tilt: of the straight line through the centres of the slices, which must span LEAST_SPAN_MM. The
   diameter is across the phantom's axis: a tilted cylinder is longer in one direction of the slice
   by 1 / cos(tilt).
7. Off-centre: of the phantom, in the middle of the measured slices, from the middle of the image.
   So the phantom is to be reconstructed about the isocentre.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.quality import phantom, rim
from appliance.records import Plane
from appliance.watching.qa import WaterFigures

MEASURED: Final = 12
MIDDLE: Final = 0.4
EDGE, EDGE_MM = 0.1, 10.0
LOW_HU: Final = 300.0
LOW_MM: Final = 3.0
"""Nearer to the edge than this lies the rim."""
NEAR_MM, FAR_MM = 8.0, 40.0
LEAST_SPAN_MM: Final = 15.0
LEAST_PIXELS: Final = 30

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Slice:
    """What one slice says."""

    plane: Plane
    circle: rim.Circle
    water_hu: float
    air_hu: float | None
    edges_hu: tuple[float | None, ...]
    noise_hu: float
    bubble_mm: float
    centre_lps_mm: F64


def figures(planes: Sequence[Plane]) -> WaterFigures | None:
    """Of planes in order of z; None where no slice of them can be measured."""
    shown = [(plane, disc) for plane in planes if (disc := phantom.disc(plane)) is not None]
    within = shown[1:-1] if len(shown) > 4 else shown
    if not within:
        return None
    at = np.unique(np.linspace(0, len(within) - 1, MEASURED).round().astype(int))
    found = [one for i in at if (one := _measured(*within[i])) is not None]
    if not found:
        return None
    water, air = _median(one.water_hu for one in found), _middle(one.air_hu for one in found)
    top, right, bottom, left = (_middle(one.edges_hu[i] for one in found) for i in range(4))
    edges = top, right, bottom, left
    known = [edge for edge in edges if edge is not None]
    tilt = _tilt_deg(found)
    stretch = 1 / math.cos(math.radians(tilt or 0.0))
    across = 2 * _median(one.circle.radius_mm for one in found) * 2 / (1 + stretch)
    oval = 4 * _median(one.circle.ellipse_mm for one in found)
    half, tenth = rim.response([(one.plane, one.circle) for one in found])
    return WaterFigures(
        slices=len(shown),
        measured=len(found),
        water_hu=round(water, 2),
        air_hu=_rounded(air, 1),
        scale=None if air is None else round((water - air) / 1000, 4),
        edges_hu=(_rounded(top, 2), _rounded(right, 2), _rounded(bottom, 2), _rounded(left, 2)),
        uniformity_hu=_rounded(max(known, key=abs, default=None), 2),
        cupping_hu=round(sum(known) / 4, 2) if len(known) == 4 else None,
        noise_hu=round(_median(one.noise_hu for one in found), 2),
        diameter_mm=round(across, 2),
        out_of_round_mm=round(max(0.0, oval - across * (stretch - 1)), 2),
        tilt_deg=_rounded(tilt, 2),
        off_centre_mm=round(_off_centre_mm(found[len(found) // 2]), 1),
        bubble_mm=round(max(one.bubble_mm for one in found), 1),
        response_50_per_mm=_rounded(half, 3),
        response_10_per_mm=_rounded(tenth, 3),
    )


def _measured(plane: Plane, disc: phantom.Disc) -> _Slice | None:
    """One slice; None where its edge is not that of a disc."""
    native = plane.native.astype(np.float32, copy=False)
    down, across = _from(plane, disc.centre)
    middle = native[np.hypot(down, across) < MIDDLE / 2 * disc.diameter_mm / 2]
    beside = np.hypot(down, across) - disc.diameter_mm / 2
    air = _air(native, down, beside)
    if len(middle) < LEAST_PIXELS:
        return None
    outside = -1000.0 if air is None else air
    circle = rim.circle(plane, disc, outside, float(np.median(middle)))
    if circle is None:
        return None
    down, across = _from(plane, circle.centre)
    away, radius = np.hypot(down, across), circle.radius_mm
    low, bubble_mm = _bubble(native, away < radius - LOW_MM, plane)
    inside = (away < MIDDLE * radius) & ~low
    if inside.sum() < LEAST_PIXELS:
        return None
    water = float(native[inside].mean())
    geometry = plane.geometry
    at = np.array(geometry.position_lps_mm, np.float64)
    at += np.array(geometry.column_lps) * circle.centre[0] * geometry.spacing_mm[0]
    at += np.array(geometry.row_lps) * circle.centre[1] * geometry.spacing_mm[1]
    return _Slice(
        plane=plane,
        circle=circle,
        water_hu=water,
        air_hu=_air(native, down, away - radius),
        edges_hu=tuple(
            None if edge is None else edge - water
            for edge in _edges(native, (down, across), radius, low)
        ),
        noise_hu=_noise(native, (down, across), inside),
        bubble_mm=bubble_mm,
        centre_lps_mm=at,
    )


def _from(plane: Plane, centre: tuple[float, float]) -> tuple[F64, F64]:
    """[y, 1] and [1, x]: mm down and across from a place in the slice."""
    (rows, columns), (tall, wide) = plane.native.shape, plane.geometry.spacing_mm
    return (
        (np.arange(rows, dtype=np.float64)[:, None] - centre[0]) * tall,
        (np.arange(columns, dtype=np.float64)[None, :] - centre[1]) * wide,
    )


def _air(native: F32, down: F64, beside: F64) -> float | None:
    """Rule 5. beside: mm from the edge of the phantom outwards [y, x]."""
    there = native[(beside > NEAR_MM) & (beside < FAR_MM) & (down < 0)]
    return float(np.median(there)) if len(there) >= LEAST_PIXELS else None


def _edges(native: F32, at: tuple[F64, F64], radius: float, low: Bool) -> tuple[float | None, ...]:
    """Rule 3: mean HU at 12, 3, 6 and 9 o'clock."""
    down, across = at
    half = EDGE * radius
    out = radius - EDGE_MM - half
    found: list[float | None] = []
    for y, x in ((-1, 0), (0, 1), (1, 0), (0, -1)):
        disc = np.hypot(down - y * out, across - x * out) < half
        kept = disc & ~low
        enough = kept.sum() > max(LEAST_PIXELS, disc.sum() / 2)
        found.append(float(native[kept].mean()) if enough else None)
    return tuple(found)


def _noise(native: F32, at: tuple[F64, F64], inside: Bool) -> float:
    """Rule 2."""
    down, across = (np.broadcast_to(one, native.shape)[inside] for one in at)
    scale = max(1.0, float(np.abs(down).max()))
    course = np.stack(
        [np.ones_like(down), down / scale, across / scale, (down**2 + across**2) / scale**2], axis=1
    )
    values = native[inside].astype(np.float64)
    fit = np.linalg.lstsq(course, values, rcond=None)[0]
    return float((values - course @ fit).std())


def _bubble(native: F32, within: Bool, plane: Plane) -> tuple[Bool, float]:
    """Rule 4: what is no water with a pixel around, and the diameter of the largest area (mm)."""
    usual = float(np.median(native[within])) if within.any() else 0.0
    air = (cv2.blur(native, (3, 3)) < usual - LOW_HU) & within
    if not air.any():
        return air, 0.0
    tall, wide = plane.geometry.spacing_mm
    _, _, boxes, _ = cv2.connectedComponentsWithStats(air.astype(np.uint8), connectivity=8)
    area = float(boxes[1:, cv2.CC_STAT_AREA].max()) * tall * wide
    around = np.ones((2 * max(1, round(LOW_MM / tall)) + 1, 2 * max(1, round(LOW_MM / wide)) + 1))
    low = cv2.dilate(air.astype(np.uint8), around.astype(np.uint8)) > 0
    return np.asarray(low), 2 * math.sqrt(area / math.pi)


def _tilt_deg(found: Sequence[_Slice]) -> float | None:
    """Rule 6."""
    centres = np.stack([one.centre_lps_mm for one in found])
    geometry = found[0].plane.geometry
    normal = np.cross(geometry.row_lps, geometry.column_lps)
    along = centres @ normal
    if len(found) < 3 or np.ptp(along) < LEAST_SPAN_MM:
        return None
    beside = centres - np.outer(along, normal)
    course = np.stack([np.ones_like(along), along - along.mean()], axis=1)
    slope = np.linalg.lstsq(course, beside, rcond=None)[0][1]
    return math.degrees(math.atan(float(np.linalg.norm(slope))))


def _off_centre_mm(one: _Slice) -> float:
    """Rule 7."""
    middle = (np.array(one.plane.native.shape) - 1) / 2
    apart = (np.array(one.circle.centre) - middle) * one.plane.geometry.spacing_mm
    return float(np.hypot(*apart))


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _middle(values: Iterable[float | None]) -> float | None:
    """Of those that are there, if they are at least half."""
    every = list(values)
    known = [value for value in every if value is not None]
    return float(np.median(known)) if 2 * len(known) >= len(every) else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
