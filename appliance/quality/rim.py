"""The rim of a round phantom in one slice: where it lies, and how sharp the image draws it.

    plane, Disc      -> Circle            circle     centre, radius, ellipse, where the edge is bad
    planes, Circles  -> (50 %, 10 %)      response

Rules.
1. The edge of an angle lies where a ray from outside first meets the value half way from air to
   water. The radius as a course of the angle is r + a cos + b sin + c cos 2 + d sin 2: the first
   pair moves the centre, the second makes it an ellipse. Angles that depart from it (a holder, the
   table, a chip) are left out of all that follows.
2. Response: the modulation transfer function of the edge, as the task transfer function of AAPM
   report 233 is made of the edges of rods (Richard et al., Med. Phys. 39, 4115 (2012); Friedman et
   al., Med. Phys. 40, 051907 (2013)). All pixels near the edge, of all slices, are sorted by their
   distance from it into bins of BIN_MM: the edge spread function. The median of SECTORS sectors
   lets no bubble in. Its difference is the line spread function, of which a window of FLAT_MM, and
   from there to REACH_MM falling as a cosine, is transformed; what bins and difference take away is
   given back.
3. Sharp kernels swing below air at the edge, and scanners of 12 bits cut what lies below -1024 HU.
   Where over CUT_SHARE of a bin has the lowest value of all, the line spread function is taken from
   its other side: it is even.
4. The rim is of another material than the water. Its inner edge is a second, small step within the
   window; what it does to the two frequencies is within the tolerance of .05/mm for rims from 2 mm
   on (docs/qa.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.quality.phantom import Disc
from appliance.records import Pair, Plane

ANGLES: Final = 180
STEP_MM: Final = 0.1
OUT_MM, IN_MM = 8.0, 10.0
"""How far outside of where the area has it, and inside, the edge is looked for."""
AWAY_MM: Final = 0.4
"""An angle is bad whose edge is farther than this and than four usual distances from the course."""
BIN_MM: Final = 0.1
FLAT_MM, REACH_MM = 2.0, 4.0
CORE: Final = 5
"""Bins on either side of the peak of the line spread function that tell where its middle is."""
CUT_SHARE: Final = 0.2
SECTORS: Final = 12
LEAST_SECTORS, LEAST_BINS = 5, 0.7
"""A sector counts where this share of its bins has a pixel."""
LEVELS: Final = (0.5, 0.1)
POINTS: Final = 4096

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Circle:
    """The outer edge of a phantom in a slice."""

    centre: Pair
    """Row and column, in pixels."""
    radius_mm: float
    """Mean."""
    ellipse_mm: float
    """Half of what the longest radius exceeds the shortest by."""
    course: tuple[float, ...]
    """Rule 1: r, a, b, c, d about `centre`, in mm."""
    bad: NDArray[np.bool_]
    """[ANGLES]: where the edge is not that of the phantom."""

    def radius_at(self, angle: F64) -> F64:
        """Radius in mm at angles from the direction of a row towards that of a column."""
        return np.asarray(_course(angle) @ np.array(self.course))


def circle(plane: Plane, disc: Disc, air_hu: float, water_hu: float) -> Circle | None:
    """The edge of the phantom in a slice; None where too little of it is that of a disc."""
    centre, radius = disc.centre, disc.diameter_mm / 2
    for _ in range(2):
        found = _course_of(plane, centre, radius, (air_hu + water_hu) / 2)
        if found is None:
            return None
        fit, bad = found
        tall, wide = plane.geometry.spacing_mm
        centre = centre[0] + float(fit[2]) / tall, centre[1] + float(fit[1]) / wide
        radius = float(fit[0])
    found = _course_of(plane, centre, radius, (air_hu + water_hu) / 2)
    if found is None:
        return None
    fit, bad = found
    half = float(np.hypot(fit[3], fit[4]))
    return Circle(centre, float(fit[0]), half, tuple(map(float, fit)), bad)


def _course_of(
    plane: Plane, centre: Pair, radius_mm: float, level_hu: float
) -> tuple[F64, NDArray[np.bool_]] | None:
    """Rule 1."""
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    out = radius_mm + np.arange(OUT_MM, -IN_MM, -STEP_MM)
    tall, wide = plane.geometry.spacing_mm
    rows = centre[0] + np.sin(angles)[:, None] * out / tall
    columns = centre[1] + np.cos(angles)[:, None] * out / wide
    rays = cv2.remap(
        plane.native.astype(np.float32, copy=False),
        columns.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=-1000,
    )
    dense = rays >= level_hu
    first = dense.argmax(axis=1)
    there = dense.any(axis=1) & (first > 0)
    at = np.maximum(first, 1)
    each = np.arange(ANGLES)
    before, after = rays[each, at - 1].astype(np.float64), rays[each, at].astype(np.float64)
    part = (level_hu - before) / np.where(after > before, after - before, 1)
    edge = out[at - 1] - STEP_MM * part
    course, kept = _course(angles), there.copy()
    fit = np.zeros(course.shape[1])
    for _ in range(3):
        if kept.sum() < ANGLES / 2:
            return None
        fit = np.linalg.lstsq(course[kept], edge[kept], rcond=None)[0]
        apart = np.abs(edge - course @ fit)
        usual = 1.48 * float(np.median(apart[kept]))
        kept = there & (apart <= max(AWAY_MM, 4 * usual))
    return fit, ~kept


def _course(angle: F64) -> F64:
    """[n, 5]."""
    return np.stack(
        [
            np.ones_like(angle),
            np.cos(angle),
            np.sin(angle),
            np.cos(2 * angle),
            np.sin(2 * angle),
        ],
        axis=-1,
    )


def response(
    planes: Sequence[tuple[Plane, Circle]],
) -> tuple[float | None, float | None]:
    """The frequencies in 1/mm at which the response of the rim is a half and a tenth (rule 2); None
    where it cannot be said, such as of an edge that is bad nearly everywhere."""
    bins = round(2 * REACH_MM / BIN_MM) + 1
    near = [_near(plane, rim) for plane, rim in planes]
    depth, sector, values = (np.concatenate(one) for one in zip(*near, strict=True))
    at = sector * bins + np.floor((depth + REACH_MM) / BIN_MM + 0.5).astype(np.intp)

    def summed(weights: F64 | NDArray[np.bool_] | None) -> F64:
        counts = np.bincount(at, weights, SECTORS * bins)
        return np.asarray(counts, np.float64).reshape(SECTORS, bins)

    number = summed(None)
    full = (number > 0).mean(axis=1) >= LEAST_BINS
    if full.sum() < LEAST_SECTORS:
        return None, None
    middles = (np.arange(bins) * BIN_MM) - REACH_MM
    even: list[F64] = []
    sums = zip(number[full], summed(depth)[full], summed(values)[full], strict=True)
    for each, depths, means in sums:
        there = each > 0  # the pixels of a bin do not lie evenly in it: their own depth counts
        even.append(np.interp(middles, depths[there] / each[there], means[there] / each[there]))
    spread = np.median(even, axis=0)
    cut = summed(values == values.min())[full].sum(axis=0) > CUT_SHARE * number[full].sum(axis=0)
    return _frequencies(_whole(np.diff(spread), cut))


def _whole(line: F64, cut: NDArray[np.bool_]) -> F64:
    """The line spread function where air is cut at the lowest value: as on its other side (rule 3).
    cut: the bins of the edge spread function, of which there is one more."""
    first = int(line.argmax())
    around = slice(max(0, first - CORE), first + CORE + 1)
    weights = np.maximum(line[around], 0)
    peak = float(np.average(np.arange(len(line))[around], weights=weights))
    gone = np.flatnonzero((cut[1:] | cut[:-1]) & (np.arange(len(line)) < peak - CORE / 2))
    gone = gone[gone > peak - FLAT_MM / BIN_MM]
    whole: F64 = line.copy()
    whole[gone] = np.interp(2 * peak - gone, np.arange(len(line)), line)
    return whole


def _near(plane: Plane, rim: Circle) -> tuple[F64, NDArray[np.intp], F64]:
    """Of each pixel near the edge: how deep it lies inside (mm), its sector, and its HU."""
    tall, wide = plane.geometry.spacing_mm
    reach = rim.radius_mm + rim.ellipse_mm + REACH_MM + 1
    (top, bottom), (left, right) = (
        (max(0, int(c - reach / mm)), min(n, int(c + reach / mm) + 2))
        for c, mm, n in zip(rim.centre, (tall, wide), plane.native.shape, strict=True)
    )
    down = (np.arange(top, bottom)[:, None] - rim.centre[0]) * tall
    across = (np.arange(left, right)[None, :] - rim.centre[1]) * wide
    away = np.hypot(down, across)
    near = np.abs(away - rim.radius_mm) < REACH_MM + rim.ellipse_mm + 1
    angle = np.arctan2(*np.broadcast_arrays(down, across))[near] % (2 * np.pi)
    depth = rim.radius_at(angle) - away[near]
    slot = (angle * ANGLES / (2 * np.pi) + 0.5).astype(np.intp) % ANGLES
    good = (np.abs(depth) <= REACH_MM) & ~rim.bad[slot]
    sector = (angle[good] * SECTORS / (2 * np.pi)).astype(np.intp) % SECTORS
    values = plane.native[top:bottom, left:right][near][good].astype(np.float64)
    return depth[good], sector, values


def _frequencies(line: F64) -> tuple[float | None, float | None]:
    """The line spread function, a value a bin -> the frequencies of LEVELS in 1/mm."""
    at = (np.arange(len(line)) - (len(line) - 1) / 2) * BIN_MM
    fall = np.clip((np.abs(at) - FLAT_MM) / (REACH_MM - FLAT_MM), 0, 1)
    spectrum = np.abs(np.fft.rfft(line * (1 + np.cos(np.pi * fall)) / 2, POINTS))
    per_mm = np.fft.rfftfreq(POINTS, BIN_MM)
    if spectrum[0] <= 0:
        return None, None
    known = per_mm < 0.4 / BIN_MM
    transfer = (spectrum / spectrum[0])[known] / np.square(np.sinc(per_mm[known] * BIN_MM))
    half, tenth = (
        _falls_to(transfer, np.asarray(per_mm[known], np.float64), level) for level in LEVELS
    )
    return half, tenth


def _falls_to(transfer: F64, per_mm: F64, level: float) -> float | None:
    """Where it is first below a level, between two points by a straight line."""
    below = np.flatnonzero(transfer < level)
    if not len(below) or below[0] == 0:
        return None
    i = int(below[0])
    part = (transfer[i - 1] - level) / (transfer[i - 1] - transfer[i])
    return float(per_mm[i - 1] + part * (per_mm[i] - per_mm[i - 1]))
