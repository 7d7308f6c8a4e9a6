"""Whether body, lungs and soft tissue are where they were, and as dense.

Rules.
1. Both images are smoothed by SMOOTH_MM first: a threshold in a sharp kernel draws noise.
2. Body: the outline, filled, of the largest thing above BODY_HU in a slice. Air: what is below it
   inside. Lungs: air with gaps of CLOSED_MM, the vessels, closed, in pieces of LEAST_CM2 and more
   (with the trachea, and gas in the gut). No network is asked.
3. Dice: twice the voxels of both by the sum of the voxels of each. Hausdorff: the 95th percentile
   of the distances, in three dimensions, of the surface voxels of each to the nearest of the other;
   what is further than REACH_MM counts as REACH_MM.
4. Tissue: the mean over the same pixels in both: those ERODED_MM and more from all air, across
   slices too, whose mean over AROUND_MM is soft tissue in the original. Noise alone moves it
   nowhere, and neither does the blur of an edge of air.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.records import Pair

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

BODY_HU: Final = -500.0
"""Half way between air and soft tissue, so that partial volume moves no edge."""
SMOOTH_MM: Final = 1.0
CLOSED_MM: Final = 9.0
LEAST_CM2: Final = 2.0
ERODED_MM: Final = 8.0
AROUND_MM: Final = 9.0
TISSUE_HU: Final = (0.0, 100.0)
REACH_MM: Final = 12.0
PERCENTILE: Final = 95.0
_CROSS: Final = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True, slots=True)
class Masks:
    """Of a slice [y, x]; all empty where nothing is dense."""

    body: Bool
    lungs: Bool
    solid: Bool
    """The body without its air."""


def masks(hu: F32, pixel_mm: Pair) -> Masks:
    """Rules 1 and 2."""
    smooth = cv2.GaussianBlur(hu, (0, 0), SMOOTH_MM / pixel_mm[1], sigmaY=SMOOTH_MM / pixel_mm[0])
    dense = (smooth > BODY_HU).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dense, connectivity=4)
    filled = np.zeros(hu.shape, np.uint8)
    if count > 1:
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        alone = (labels == largest).astype(np.uint8)
        outlines, _ = cv2.findContours(alone, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    air = filled & (1 - dense)
    closed = cv2.morphologyEx(air, cv2.MORPH_CLOSE, _ellipse(CLOSED_MM, pixel_mm)) & filled
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] * pixel_mm[0] * pixel_mm[1] / 100 >= LEAST_CM2
    large[0] = False
    body = filled.astype(np.bool_)
    return Masks(body, np.asarray(large[labels]), np.asarray(body & (air == 0)))


def soft_tissue(
    slices: Sequence[NDArray[np.generic]],
    solid: Sequence[Bool],
    z_mm: NDArray[np.float64],
    pixel_mm: Pair,
) -> tuple[Bool, ...]:
    """Rule 4: the pixels of each slice of the original."""
    edge = _ellipse(2 * ERODED_MM, pixel_mm)
    inner = [cv2.erode(one.astype(np.uint8), edge, borderValue=0) > 0 for one in solid]
    size = [max(1, round(AROUND_MM / mm)) for mm in pixel_mm[::-1]]
    found = []
    for k, hu in enumerate(slices):
        mean = cv2.blur(hu.astype(np.float32), size)
        here = (mean > TISSUE_HU[0]) & (mean < TISSUE_HU[1])
        for beside in np.flatnonzero(np.abs(z_mm - z_mm[k]) <= ERODED_MM):
            here &= inner[beside]
        found.append(np.asarray(here))
    return tuple(found)


def _ellipse(across_mm: float, pixel_mm: Pair) -> NDArray[np.uint8]:
    size = [2 * max(1, round(across_mm / 2 / mm)) + 1 for mm in pixel_mm[::-1]]
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size), np.uint8)


def dice(a: Sequence[Bool], b: Sequence[Bool]) -> float | None:
    """Of two masks, slice by slice; None where both are empty."""
    both = sum(int(np.count_nonzero(p & q)) for p, q in zip(a, b, strict=True))
    each = sum(
        int(np.count_nonzero(p)) + int(np.count_nonzero(q)) for p, q in zip(a, b, strict=True)
    )
    return 2 * both / each if each else None


def hausdorff_mm(
    a: Sequence[Bool], b: Sequence[Bool], z_mm: NDArray[np.float64], pixel_mm: Pair
) -> float | None:
    """Rule 3, of masks of slices at these places; None where one of them is empty. Of pixels that
    are not square the longer edge counts both ways."""
    if not any(map(np.any, a)) or not any(map(np.any, b)):
        return None
    far = [_far(p, q, z_mm, max(pixel_mm)) for p, q in ((a, b), (b, a))]
    return float(max(np.percentile(one, PERCENTILE) for one in far))


def _far(
    of: Sequence[Bool], to: Sequence[Bool], z_mm: NDArray[np.float64], pixel_mm: float
) -> NDArray[np.float32]:
    """Distance of each surface voxel of one mask to the nearest surface voxel of the other."""
    away = _cached(to, pixel_mm)
    found = []
    for k in range(len(of)):
        rows, columns = np.nonzero(_surface(of, k))
        nearest = np.full(len(rows), REACH_MM, np.float32)
        for other in np.flatnonzero(np.abs(z_mm - z_mm[k]) < REACH_MM):
            beside = np.float32(z_mm[other] - z_mm[k])
            np.minimum(nearest, np.hypot(away(int(other))[rows, columns], beside), out=nearest)
        found.append(nearest)
    return np.concatenate(found)


def _cached(mask: Sequence[Bool], pixel_mm: float) -> Callable[[int], F32]:
    """Of a slice: how far each pixel is from the mask's surface there, mm."""

    @lru_cache(maxsize=64)
    def away(k: int) -> F32:
        surface = _surface(mask, k)
        if not surface.any():
            return np.full(surface.shape, REACH_MM, np.float32)
        pixels = cv2.distanceTransform(
            (~surface).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        return np.asarray(pixels * np.float32(pixel_mm), np.float32)

    return away


def _surface(mask: Sequence[Bool], k: int) -> Bool:
    """Voxels of slice k with a neighbour outside; beyond the image and the series is no outside."""
    here = mask[k]
    core = cv2.erode(here.astype(np.uint8), _CROSS, borderValue=1).astype(np.bool_)
    for beside in (k - 1, k + 1):
        if 0 <= beside < len(mask):
            core &= mask[beside]
    return np.asarray(here & ~core)
