"""A water phantom as CT images, with the faults that quality assurance looks for.

A cylinder of water in a thin rim of acrylic, in air over a table, along the axis of the scanner.

Rules of this module:

1. Values in, values out, as phantom/chest.py: the same arguments give the same bytes.
2. Surfaces are analytic. An edge is the edge spread function of `response` taken at the distance
   of a pixel's centre from the surface (the radius is a hundred times the blur, so the edge is as
   good as straight). So the truth of the rim response is exact, and no pixel is averaged over its
   area: a reconstruction samples its image.
3. `response` is a sum of Gaussians (weight, sigma in mm), the weights of which add up to 1; a
   negative one sharpens. The modulation transfer function is then
   sum of weight * exp(-2 pi^2 sigma^2 f^2).
4. Noise is white noise through a band: the image's own blur less a wider one, as a filtered
   reconstruction has little of the lowest frequencies. Air has a quarter of it. No value is below
   -1024 HU, as of a scanner of 12 bits.
5. Axes, geometry and stored values are those of phantom/instances.py. The phantom lies at x = y =
   0, which is the middle of the image, but for `centre_mm`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from appliance.phantom import instances
from appliance.phantom.chest import Phantom

F64 = NDArray[np.float64]
Response = tuple[tuple[float, float], ...]

SOFT: Final[Response] = ((1.0, 0.50),)
"""50 % at .375/mm, 10 % at .683/mm: a standard kernel of the body."""
SHARP: Final[Response] = ((1.6, 0.35), (-0.6, 0.75))
"""Edges overshoot by some percent: 50 % at .692/mm, 10 % at 1.071/mm."""
AIR_HU, LEAST_HU = -1000.0, -1024.0
PATIENT: Final = instances.Patient("PHANTOM-WATER", "", "PHANTOM^WATER")
_STEP_MM: Final = 0.01
_TABLE_MM: Final = (12.0, 2.0, 220.0)
"""Gap below the phantom, thickness of the table's skin, half of its width."""


@dataclass(frozen=True, slots=True)
class Water:
    """The phantom and its faults."""

    diameter_mm: float = 200.0
    """Outer."""
    rim_mm: float = 4.0
    rim_hu: float = 120.0
    length_mm: float | None = None
    """Along its axis, around the middle of the series; None: through all slices."""
    response: Response = SOFT
    noise_hu: float = 6.0
    cupping_hu: float = 0.0
    """How much more the water is at the rim than in the middle, with the square of the radius."""
    tilt_deg: float = 0.0
    """Of its axis against that of the scanner, in the sagittal plane."""
    centre_mm: tuple[float, float] = (0.0, 0.0)
    """Of its axis in the middle slice: x to the left, y to the back."""
    bubble_mm: float = 0.0
    """Diameter of a bubble of air that runs along under the rim, on top."""
    offset_hu: float = 0.0
    scale: float = 1.0
    """Of the rescale slope, with the intercept kept."""


def mtf(response: Response, per_mm: float) -> float:
    """The modulation transfer function at a frequency in 1/mm (rule 3)."""
    return sum(w * math.exp(-2 * (math.pi * sigma * per_mm) ** 2) for w, sigma in response)


def frequency(response: Response, level: float) -> float:
    """The frequency in 1/mm above which the transfer function is below `level`."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mtf(response, middle) >= level else (low, middle)
    return low


def volume(
    water: Water,
    *,
    spacing_mm: tuple[float, float, float] = (2.0, 0.5, 0.5),
    slices: int = 20,
    rows: int = 512,
    seed: int = 1,
) -> Phantom:
    """The phantom [z, y, x] in HU; spacing as (z, y, x), a square image of `rows`."""
    dz, dy, dx = spacing_mm
    origin = (-(rows - 1) / 2 * dx, -(rows - 1) / 2 * dy, -(slices - 1) / 2 * dz)
    y: F64 = origin[1] + np.arange(rows, dtype=np.float64)[:, None] * dy
    x: F64 = origin[0] + np.arange(rows, dtype=np.float64)[None, :] * dx
    hu = np.empty((slices, rows, rows), np.int16)
    for k in range(slices):
        noise = _noise(water, rows, (dy, dx), np.random.default_rng((seed, k)))
        one = _scaled(_slice(water, origin[2] + k * dz, y, x, noise), water)
        hu[k] = np.rint(np.clip(one, LEAST_HU, 3071)).astype(np.int16)
    return Phantom(hu, spacing_mm, origin, ())


def series(
    water: Water,
    *,
    spacing_mm: tuple[float, float, float] = (2.0, 0.5, 0.5),
    slices: int = 20,
    rows: int = 512,
    seed: int = 1,
    study_uid: str | None = None,
    series_uid: str | None = None,
    when: datetime = datetime(2026, 1, 5, 7, 0),
    kernel: str = "STANDARD",
) -> Iterator[Dataset]:
    """The same as CT instances of a head protocol, as a technician scans such a phantom."""
    whole = volume(water, spacing_mm=spacing_mm, slices=slices, rows=rows, seed=seed)
    made = instances.series(
        whole,
        study_uid=study_uid,
        series_uid=series_uid,
        when=when,
        kernel=kernel,
        patient=PATIENT,
    )
    for image in made:
        image.StudyDescription, image.SeriesDescription = "Phantom water", "Water, synthetic"
        image.BodyPartExamined, image.ProtocolName = "HEAD", "Water phantom"
        image.WindowCenter, image.WindowWidth = 0, 200
        yield image


def _slice(water: Water, z: float, y: F64, x: F64, noise: F64) -> F64:
    """One slice [y, x] in HU, before the scale of the values goes wrong."""
    tilt, radius = math.radians(water.tilt_deg), water.diameter_mm / 2
    x, y = x - water.centre_mm[0], y - water.centre_mm[1]
    along = y * math.sin(tilt) + z * math.cos(tilt)
    away = np.hypot(x, y * math.cos(tilt) - z * math.sin(tilt))
    esf = _Edge(water.response)
    inside = esf(radius - away)
    hu = (water.rim_hu - AIR_HU) * inside - water.rim_hu * esf(radius - water.rim_mm - away)
    hu += water.cupping_hu * np.square(np.minimum(away / radius, 1)) * inside
    hu += noise * (0.25 + 0.75 * inside)
    if water.bubble_mm > 0:
        above = radius - water.rim_mm - water.bubble_mm / 2
        from_it = np.hypot(x, y * math.cos(tilt) - z * math.sin(tilt) + above)
        hu *= 1 - esf(water.bubble_mm / 2 - from_it)
    if water.length_mm is not None:
        hu *= esf(water.length_mm / 2 - np.abs(along))
    return np.asarray(hu + AIR_HU + _table(water, esf, y, x))


def _table(water: Water, esf: _Edge, y: F64, x: F64) -> F64:
    """The skin of a table of carbon below the phantom, HU above air."""
    gap, skin, half = _TABLE_MM
    under = y - water.diameter_mm / 2 - gap
    return np.asarray(900.0 * (esf(under) - esf(under - skin)) * esf(half - np.abs(x)))


def _noise(
    water: Water, rows: int, spacing_mm: tuple[float, float], rng: np.random.Generator
) -> F64:
    """[y, x] with the standard deviation of the water's noise (rule 4)."""
    white = rng.standard_normal((rows, rows))
    sigma = min(sigma for _, sigma in water.response)
    fine, wide = (
        cv2.GaussianBlur(
            white, (0, 0), times * sigma / spacing_mm[1], sigmaY=times * sigma / spacing_mm[0]
        )
        for times in (1.0, 2.5)
    )
    band = np.asarray(fine - wide, np.float64)
    return np.asarray(band * (water.noise_hu / band.std()))


def _scaled(hu: F64, water: Water) -> F64:
    return np.asarray((hu - LEAST_HU) * water.scale + LEAST_HU + water.offset_hu)


class _Edge:
    """The edge spread function of a response: mm into a body -> 0 outside to 1 inside."""

    def __init__(self, response: Response) -> None:
        reach = 6 * max(sigma for _, sigma in response)
        self._at = np.arange(-reach, reach + _STEP_MM, _STEP_MM)
        self._is = np.zeros(len(self._at))
        for weight, sigma in response:
            erf = [math.erf(d / (sigma * math.sqrt(2))) for d in self._at]
            self._is += weight * (1 + np.array(erf)) / 2

    def __call__(self, depth_mm: F64) -> F64:
        return np.asarray(np.interp(depth_mm, self._at, self._is))
