"""May it be said that a finding of one exam was not there in the other? Only where that could be
seen.

    place of a finding in the other exam -> every reason why its absence cannot be said

Rules
1. A finding is new (or gone, the other way round) where the other exam covers its place, could
   show its size, has a list that was not full, lists nothing there, and shows nothing there in its
   pixels. A missing candidate alone is no absence: detectors miss.
2. Pixels show nothing where the contrast at the place is under SHOWN of today's: that is the mean
   of a ball of the finding's size less the median of the lung around it. The place is known to one
   or two millimetres, so the highest contrast within REACH_MM of it counts; a body that lies half
   of its size further off still fills a third of such a ball. Further away stand vessels, which are
   no sign of it. Where the finding itself has little contrast, or its place lies outside of the
   lungs there, nobody can tell.
3. Slices show a finding that is at least SLICES of them in size. One under SMALL_MM is said to be
   new or gone only where one and the same bundle has looked at both exams, because another one may
   report smaller ones.
4. In diseased lungs, or where the registration is weak, nothing is said to be new or gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.comparison import Why
from appliance.preprocess import plan
from appliance.prior.change import slices_mm
from appliance.prior.entry import HIGH_HU, LOW_HU, Entry, Image
from appliance.records import Vector

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

SHOWN: Final = 1 / 3
"""Share of the finding's own contrast from which on something is seen."""
LEAST_HU: Final = 120.0
"""A finding of less contrast cannot be told from what lies around it."""
REACH_MM: Final = 2.0
LISTED_MM: Final = 5.0
TAKEN_MM: Final = 2.0
"""So far around another finding its blurred rim reaches."""
SHELL_MM: Final = (1.0, 6.0)
"""From where to where around a ball its surroundings are looked at."""
IN_LUNGS: Final = 0.8
"""Share of a ball beside the place itself that must lie in the lungs: the wall is no finding."""
SLICES: Final = 2
SMALL_MM: Final = 6.0


@dataclass(frozen=True, slots=True)
class Missing:
    """A finding that has no partner in the other exam."""

    lps_mm: Vector
    """Its place in its own exam."""
    there_lps_mm: Vector
    """Where it would lie in the other one."""
    diameter_mm: float


@dataclass(frozen=True, slots=True)
class Listed:
    """What the other exam lists, in its own LPS mm."""

    open: Sequence[Vector] = ()
    """Places that belong to nothing else."""
    taken: Sequence[tuple[Vector, float]] = ()
    """Places and radii of what is matched with another finding."""


def why_not(
    missing: Missing, own: Entry, other: Entry, listed: Listed, *, weak: bool
) -> tuple[Why, ...]:
    """Why it cannot be said that a finding of `own` is not in `other`; empty: it is not there.
    `weak`: the registration is."""
    radius, at = missing.diameter_mm / 2, missing.there_lps_mm
    covered = covers(other.image, at, radius)
    against: dict[Why, bool] = {
        "outside_cover": not covered,
        "too_thick": SLICES * slices_mm(other.facts) > missing.diameter_mm,
        "list_full": other.facts.list_full,
        "too_small": missing.diameter_mm < SMALL_MM
        and own.facts.bundle_digest != other.facts.bundle_digest,
        "diseased": own.facts.diseased or other.facts.diseased,
        "registration_weak": weak,
        "seen_in_pixels": covered
        and (
            _lists(listed.open, at, radius) or shows(missing, own.image, other.image, listed.taken)
        ),
    }
    return tuple(why for why, holds in against.items() if holds)


def covers(image: Image, lps_mm: Vector, radius_mm: float) -> bool:
    """Whether the images of an exam show all of a ball."""
    reach = np.ceil(radius_mm / np.asarray(image.grid.spacing_mm)).astype(int)
    middle = np.floor(plan.to_index(image.grid, lps_mm) + 0.5).astype(int)
    if (middle < reach).any() or (middle + reach >= image.grid.shape).any():
        return False
    box = tuple(slice(m - r, m + r + 1) for m, r in zip(middle, reach, strict=True))
    return bool(image.covered[box].all())


def shows(
    missing: Missing, own: Image, other: Image, taken: Sequence[tuple[Vector, float]] = ()
) -> bool:
    """Rule 2: whether something is seen at the place, or nobody can tell."""
    radius = missing.diameter_mm / 2
    today = contrast(own, missing.lps_mm, radius, reach_mm=0.0)
    there = contrast(other, missing.there_lps_mm, radius, reach_mm=REACH_MM, taken=taken)
    return today is None or there is None or today < LEAST_HU or there >= SHOWN * today


def contrast(
    image: Image,
    lps_mm: Vector,
    radius_mm: float,
    *,
    reach_mm: float,
    taken: Sequence[tuple[Vector, float]] = (),
) -> float | None:
    """HU by which a ball stands out of the lung around it, at its best place within reach; None
    where too little lung is around it. Balls that are `taken` are not looked at."""
    spacing = np.asarray(image.grid.spacing_mm)
    middle = plan.to_index(image.grid, lps_mm)
    far = np.ceil((radius_mm + reach_mm + SHELL_MM[1]) / spacing).astype(int)
    low = np.maximum(np.floor(middle).astype(int) - far, 0)
    high = np.minimum(np.floor(middle).astype(int) + far + 2, image.grid.shape)
    if (low >= high).any():
        return None
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    hu = LOW_HU + image.values[box].astype(np.float64) * (HIGH_HU - LOW_HU) / 255
    at = [(np.arange(a, b) - m) * s for a, b, m, s in zip(low, high, middle, spacing, strict=True)]
    looked = np.ones(hu.shape, np.bool_)
    for place, size in taken:
        off = (plan.to_index(image.grid, place) - middle) * spacing
        looked &= _away(at, off) > size + TAKEN_MM
    best: float | None = None
    for step in _steps(reach_mm, float(spacing.max())):
        away = _away(at, step)
        one = _stands_out(hu, image.lungs[box], looked, away, radius_mm, at_place=not any(step))
        if one is None and not any(step):
            return None
        if one is not None and (best is None or one > best):
            best = one
    return best


def _stands_out(
    hu: F64, lungs: Bool, looked: Bool, away: F64, radius_mm: float, *, at_place: bool
) -> float | None:
    """Mean of the ball less the median of the lung around it; None where half of the ball is not to
    be looked at, where there is too little lung, or, beside the place itself, where the ball leaves
    the lungs."""
    ball = np.clip((radius_mm - away) / 2 + 0.5, 0, 1)
    every = float(ball.sum())
    ball = ball * looked
    whole = float(ball.sum())
    if 2 * whole <= every:
        return None
    if not at_place and float(ball[lungs].sum()) < IN_LUNGS * whole:
        return None
    around = (away >= radius_mm + SHELL_MM[0]) & (away <= radius_mm + SHELL_MM[1])
    lung = around & lungs & looked
    if 5 * np.count_nonzero(lung) < np.count_nonzero(around):
        return None
    return float((hu * ball).sum() / whole - np.median(hu[lung]))


def _away(at: Sequence[F64], place: Sequence[float] | F64) -> F64:
    """mm of voxels along z, y and x from a place -> how far each of them is away [z, y, x]."""
    z, y, x = ((axis - p) ** 2 for axis, p in zip(at, place, strict=True))
    return np.asarray(np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None]))


def _steps(reach_mm: float, step_mm: float) -> list[tuple[float, float, float]]:
    """Places within reach, the middle first."""
    n = int(reach_mm / step_mm)
    line = [i * step_mm for i in range(-n, n + 1)]
    ball = [
        (z, y, x) for z in line for y in line for x in line if z * z + y * y + x * x <= reach_mm**2
    ]
    return sorted(ball, key=lambda p: p[0] ** 2 + p[1] ** 2 + p[2] ** 2)


def _lists(listed: Sequence[Vector], at: Vector, radius_mm: float) -> bool:
    near = max(LISTED_MM, radius_mm)
    return any(float(np.linalg.norm(np.subtract(one, at))) <= near for one in listed)
