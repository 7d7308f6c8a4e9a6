"""How noisy the images are: SD of HU in soft tissue, the mean frequency of the noise, and SD in air
before the body.

Blocks and quarters lie at fixed places (blocks.py), so nothing depends on the order of arrival.

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
one for soft images, by the steepness of edges in the lungs (sharpness.py) with a power law between
them, each a third or more above the noisiest of the eight shared CTs of its kind. Steepness parts
these two kinds by 27 %, the frequency of the noise by 3 %, because large pixels hide what a sharp
kernel adds; and noise that is added does not change it. What one limit for all scanners finds
stands in docs/in-room-check.md; who knows the scanner can do better.
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
SHARP_HU_PER_MM, SOFT_HU_PER_MM = 580.0, 480.0
SHARP_MOST_HU, SOFT_MOST_HU = 115.0, 42.0

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def power(blocks: F32, pixel_mm: Pair) -> F32:
    """Blocks [n, y, x] of HU -> [n, 3]: power below LOW_PER_MM, power above it, and the latter
    times its frequency (1/mm); in an arbitrary unit."""
    if not len(blocks):
        return np.zeros((0, 3), np.float32)
    plane, down, across, weights = _filters(blocks.shape[1], blocks.shape[2], pixel_mm)
    flat = blocks.reshape(len(blocks), -1)
    even = (flat - (flat @ plane) @ plane.T).reshape(blocks.shape)
    waves = down @ even @ across.T
    return np.asarray((waves * waves).reshape(len(blocks), -1) @ weights, np.float32)


@lru_cache(maxsize=16)
def _filters(rows: int, columns: int, pixel_mm: Pair) -> tuple[F32, F32, F32, F32]:
    """For a block: a basis of its planes [pixels, 3], the windowed waves down [waves, y] and across
    [waves, x] it, and what sums the squares of their products [products, 3] as `power` says."""
    y, x = np.indices((rows, columns), np.float64)
    basis, _ = np.linalg.qr(np.stack([np.ones(y.size), y.ravel(), x.ravel()], axis=1))
    down, of_down = _waves(rows, pixel_mm[0])
    across, of_across = _waves(columns, pixel_mm[1])
    frequency = np.hypot(of_down[:, None], of_across).ravel()
    low = frequency < LOW_PER_MM
    weights = np.stack([low, ~low, ~low * frequency], axis=1)
    return (
        basis.astype(np.float32),
        down.astype(np.float32),
        across.astype(np.float32),
        weights.astype(np.float32),
    )


def _waves(pixels: int, pixel_mm: float) -> tuple[F64, F64]:
    """The real Fourier basis of a line under a Hann window [waves, pixels], and the frequency of
    each wave, 1/mm. Squares of products of two of them, summed over sine and cosine, are the power
    at both signs of a frequency, so no complex number is needed."""
    place, count = np.arange(pixels), np.arange(pixels // 2 + 1)
    phase = 2 * np.pi / pixels * count[:, None] * place
    paired = (count > 0) & (2 * count < pixels)
    size = np.where(paired, np.sqrt(2), 1.0)[:, None]
    waves = np.concatenate([size * np.cos(phase), np.sqrt(2) * np.sin(phase[paired])])
    frequency = np.concatenate([count, count[paired]]) / (pixels * pixel_mm)
    return waves * np.hanning(pixels + 2)[1:-1], frequency


def of_air(blocks: F32) -> tuple[F32, F32]:
    """Quarters in air [n, pixels] -> median HU and SD of each [n]; NaN where so much of one
    has its least value that not even the median is known."""
    if not len(blocks):
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    pixels = blocks.shape[1]
    ordered = np.sort(blocks, axis=1)
    middle = (ordered[:, pixels // 2] + ordered[:, (pixels - 1) // 2]) / 2
    above = np.maximum(blocks - middle[:, None], 0)
    count = np.count_nonzero(above, axis=1)
    least = np.count_nonzero(blocks == ordered[:, :1], axis=1)
    sd = np.sqrt((above * above).sum(axis=1) / np.maximum(count, 1))
    sd[(least / pixels > MOST_CUT) | (count == 0)] = np.nan
    return np.asarray(middle, np.float32), sd.astype(np.float32)


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


def most_hu(lung_edge_hu_per_mm: float | None) -> float:
    """The limit of `noise_thick_hu`; where no edge is known that of sharp images."""
    if lung_edge_hu_per_mm is None:
        return SHARP_MOST_HU
    soft = (SHARP_HU_PER_MM - lung_edge_hu_per_mm) / (SHARP_HU_PER_MM - SOFT_HU_PER_MM)
    return float(SHARP_MOST_HU * (SOFT_MOST_HU / SHARP_MOST_HU) ** float(np.clip(soft, 0, 1)))
