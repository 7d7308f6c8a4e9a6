"""How noisy the images are: SD of HU in soft tissue, the mean frequency of the noise, and SD in air
before the body.

Blocks and quarters lie at fixed places (blocks.py), so that nothing depends on the order of arrival.

- `noise_hu`: lower quartile over all quarters (squares of 6 mm) whose mean lies in EVEN_HU of the
  SD in a quarter. The quartile leaves edges and vessels out (method: global noise level,
  Christianson et al., AJR 2015;205:W93, there the mode of a map of SDs). The mean of a quarter is
  taken off, so that what changes over more than it is no noise.
- `noise_thick_hu`: noise falls with the root of the slice thickness, for as many more photons are
  counted; so it is named as slices of THICK_MM would have it. Thickness is Slice Thickness
  (0018,0050), else the distance of the slices.
- `texture_per_mm`: mean radial frequency of the noise power spectrum, 1/mm (the average frequency
  of AAPM report 233), of what lies above LOW_PER_MM. The spectrum is that of blocks
  of 12 mm of which a plane is taken off and a Hann window laid on; x and y count alike. Of all
  blocks those count whose power below LOW_PER_MM is in the lowest quarter: there lies anatomy, and
  hardly any noise of a scanner, for back projection filters it with a ramp. On noise of known
  spectrum it is within 5 % at pixels of 0.5 to 0.98 mm. Noise of half the dose with the series' own
  spectrum moves it by at most 2 % in the eight shared CTs, unsharp masking (1 pixel, weight 1) by 2
  to 11 %, white noise by 2 to 28 % (tests/appliance/quality/test_noise.py on made noise).
- `air_noise_hu`: SD in air in front of the body, of the upper half of the values about their
  median, because many scanners cut HU at -1024: then the lower half is not all there. It is shown
  and not judged: a small field of view has no air, and where it is cut or smoothed it says nothing.

Limits. Noise differs by a factor of three between kernels alone, so the limit is one for sharp and
one for soft texture, with a power law between them (SHARP, SOFT), each a third or more above the
noisiest of the eight shared CTs of its kind. What one limit for all scanners finds stands in
docs/in-room-check.md; who knows the scanner can do better.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.records import Pair, Sample

EVEN_HU = 0.0, 200.0
"""Means of blocks of soft tissue: above fat, with blood and liver that hold contrast medium."""
AIR_HU: Final = -900.0
EVENEST: Final = 0.25
FEWEST_QUARTERS: Final = 400
"""Of a series: a quartile of fewer says little."""
FEWEST_BLOCKS: Final = 100
"""The same of whole blocks, of which a quarter counts."""
LOW_PER_MM: Final = 0.15
FEWEST_AIR: Final = 100
"""Quarters of air; of each slice a few are taken."""
MOST_CUT: Final = 0.35
"""Share of a quarter of air that may have its least value."""
THICK_MM: Final = 2.5
SHARP_PER_MM, SOFT_PER_MM = 0.45, 0.40
SHARP_MOST_HU, SOFT_MOST_HU = 115.0, 42.0

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def power(blocks: F32, pixel_mm: Pair) -> F32:
    """Blocks [n, y, x] of HU -> [n, 3]: power below LOW_PER_MM, power above it, and the latter
    times its frequency (1/mm); in an arbitrary unit."""
    if not len(blocks):
        return np.zeros((0, 3), np.float32)
    plane, window, weights = _filters(blocks.shape[1], blocks.shape[2], pixel_mm)
    flat = blocks.reshape(len(blocks), -1)
    flat = flat - (flat @ plane) @ plane.T
    spectrum = np.fft.rfft2(flat.reshape(blocks.shape) * window)
    squared = spectrum.real**2 + spectrum.imag**2
    return np.asarray(squared.reshape(len(blocks), -1) @ weights, np.float32)


@lru_cache(maxsize=16)
def _filters(rows: int, columns: int, pixel_mm: Pair) -> tuple[F32, F32, F32]:
    """For a block: a basis of its planes [pixels, 3], its window [y, x], and what sums its half
    spectrum [frequencies, 3] as `power` says."""
    y, x = np.indices((rows, columns), np.float64)
    basis, _ = np.linalg.qr(np.stack([np.ones(y.size), y.ravel(), x.ravel()], axis=1))
    window = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1])
    across = np.fft.rfftfreq(columns, pixel_mm[1])
    frequency = np.hypot(np.fft.fftfreq(rows, pixel_mm[0])[:, None], across)
    twice = np.full(len(across), 2.0)  # the half that is left out mirrors it
    twice[0] = 1.0
    if columns % 2 == 0:
        twice[-1] = 1.0
    low = frequency < LOW_PER_MM
    weights = np.stack([twice * low, twice * ~low, twice * ~low * frequency], axis=-1)
    return (
        basis.astype(np.float32),
        window.astype(np.float32),
        weights.reshape(-1, 3).astype(np.float32),
    )


def of_air(blocks: F32) -> tuple[F32, F32]:
    """Quarters in air [n, pixels] -> median HU and SD of each [n]; NaN where so much of one
    has its least value that not even the median is known."""
    if not len(blocks):
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    half = blocks.shape[1] // 2, (blocks.shape[1] - 1) // 2
    middle = np.partition(blocks, half, axis=1)[:, half].mean(axis=1)  # the median
    half = blocks.shape[1] // 2, (blocks.shape[1] - 1) // 2
    middle = np.partition(blocks, half, axis=1)[:, half].mean(axis=1)  # the median
    above = blocks - middle[:, None]
    upper = above > 0
    count = upper.sum(axis=1)
    square = np.where(upper, above, 0) ** 2
    least = blocks.min(axis=1, keepdims=True)
    cut = ((blocks == least).mean(axis=1) > MOST_CUT) | (count == 0)
    sd = np.sqrt(square.sum(axis=1) / np.maximum(count, 1))
    return middle.astype(np.float32), np.where(cut, np.nan, sd).astype(np.float32)


def in_tissue(samples: Sequence[Sample]) -> float | None:
    """`noise_hu`."""
    sds = np.concatenate([one.tissue_sd[_even(one)] for one in samples]) if samples else np.zeros(0)
    return None if len(sds) < FEWEST_QUARTERS else float(np.quantile(sds, EVENEST))


def _even(one: Sample) -> NDArray[np.bool_]:
    return np.asarray((one.tissue_hu > EVEN_HU[0]) & (one.tissue_hu < EVEN_HU[1]))


def in_air(samples: Sequence[Sample]) -> float | None:
    """`air_noise_hu`."""
    sds = np.concatenate([one.air_sd for one in samples]) if samples else np.zeros(0)
    sds = sds[np.isfinite(sds)]
    return None if len(sds) < FEWEST_AIR else float(np.quantile(sds, EVENEST))


def as_thick(noise_hu: float, thickness_mm: float) -> float:
    """`noise_thick_hu`."""
    return noise_hu * float(np.sqrt(thickness_mm / THICK_MM))


def texture(samples: Sequence[Sample]) -> float | None:
    """`texture_per_mm`; None of too few blocks, and where they hold no noise above LOW_PER_MM."""
    if sum(len(one.power) for one in samples) < FEWEST_BLOCKS:
        return None
    low, high, weighted = np.concatenate([one.power for one in samples]).astype(np.float64).T
    even = low <= np.quantile(low, EVENEST)
    total = float(high[even].sum())
    return float(weighted[even].sum()) / total if total > 0 else None


def most_hu(texture_per_mm: float | None) -> float:
    """The limit of `noise_thick_hu`; where the texture is not known that of sharp images."""
    if texture_per_mm is None:
        return SHARP_MOST_HU
    soft = (SHARP_PER_MM - texture_per_mm) / (SHARP_PER_MM - SOFT_PER_MM)
    return float(SHARP_MOST_HU * (SOFT_MOST_HU / SHARP_MOST_HU) ** float(np.clip(soft, 0, 1)))
