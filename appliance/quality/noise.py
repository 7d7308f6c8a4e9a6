"""How noisy the images are: SD of HU in soft tissue, its texture, and SD in air before the body.

- `noise_hu`: lower quartile over all blocks (slices.py) whose mean lies in EVEN_HU of the SD in a
  block. The quartile leaves edges and vessels out (method: global noise level, Christianson et al.,
  AJR 2015;205:W93, there the mode of a map of SDs). The mean of a block is taken off, so that
  what changes over more than a block is no noise.
- `noise_thick_hu`: noise falls with the root of the slice thickness, for as many more photons are
  counted; so it is named as slices of THICK_MM would have it. Thickness is Slice Thickness
  (0018,0050), else the distance of the slices.
- `texture`: correlation of the noise with itself 1 mm aside along x. A sharp kernel leaves none.
- `air_noise_hu`: the same in air in front of the body, of the upper half of the values about their
  median, because many scanners cut HU at -1024: then the lower half is not all there. It is shown
  and not judged: a small field of view has no air, and where it is cut or smoothed it says nothing.

Limits. Noise differs by a factor of three between kernels alone, so the limit is one for sharp and
one for soft texture, with a power law between them (SHARP, SOFT), each a third or more above the
noisiest of the eight shared CTs of its kind. One limit for all scanners finds noise of three times
the usual in seven of these eight and of twice the usual in five (docs/in-room-check.md); who knows
the scanner can do better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.records import Sample

EVEN_HU = 0.0, 200.0
"""Means of blocks of soft tissue: above fat, with blood and liver that hold contrast medium."""
AIR_HU: Final = -900.0
EVENEST: Final = 0.25
FEWEST_BLOCKS: Final = 100
"""Of a series: a quartile of fewer says little."""
MOST_CUT: Final = 0.35
"""Share of a block of air that may have its least value."""
THICK_MM: Final = 2.5
LAGS: Final = 5
AT_MM: Final = 1.0
SHARP, SOFT = 0.10, 0.28
SHARP_MOST_HU, SOFT_MOST_HU = 115.0, 42.0

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def lagged(blocks: F32, sd: F32) -> F64:
    """[LAGS]: means over a block of products of its noise with itself so many pixels aside along x,
    summed over the evenest blocks [n, y, x] of a slice; zeros where there are none."""
    sums = np.zeros(LAGS)
    if not len(blocks):
        return sums
    most = int(EVENEST * (len(sd) - 1))
    even = blocks[sd <= np.partition(sd, most)[most]].astype(np.float64)
    even -= even.mean(axis=(1, 2), keepdims=True)
    width = even.shape[2]
    for lag in range(min(LAGS, width)):
        products = even[:, :, : width - lag] * even[:, :, lag:]
        sums[lag] = products.sum() / products[0].size
    return sums


def of_air(blocks: F32) -> tuple[F32, F32]:
    """Blocks of air [n, pixels] -> median HU and SD of each [n]; NaN where so much of a block
    has its least value that not even the median is known."""
    if not len(blocks):
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
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
    return None if len(sds) < FEWEST_BLOCKS else float(np.quantile(sds, EVENEST))


def _even(one: Sample) -> NDArray[np.bool_]:
    return np.asarray((one.tissue_hu > EVEN_HU[0]) & (one.tissue_hu < EVEN_HU[1]))


def in_air(samples: Sequence[Sample]) -> float | None:
    """`air_noise_hu`."""
    sds = np.concatenate([one.air_sd for one in samples]) if samples else np.zeros(0)
    sds = sds[np.isfinite(sds)]
    return None if len(sds) < FEWEST_BLOCKS else float(np.quantile(sds, EVENEST))


def as_thick(noise_hu: float, thickness_mm: float) -> float:
    """`noise_thick_hu`."""
    return noise_hu * float(np.sqrt(thickness_mm / THICK_MM))


def texture(samples: Sequence[Sample], pixel_mm: float) -> float | None:
    """`texture`; None where the pixels are too large or nothing was measured."""
    sums = np.sum([one.lagged for one in samples], axis=0) if samples else np.zeros(LAGS)
    if sums[0] <= 0 or pixel_mm * (LAGS - 1) < AT_MM or pixel_mm > AT_MM:
        return None
    at = np.interp(AT_MM, np.arange(LAGS) * pixel_mm, sums / sums[0])
    return float(np.clip(at, -1, 1))


def most_hu(texture: float | None) -> float:
    """The limit of `noise_thick_hu`; where the texture is not known that of sharp images."""
    soft = 0.0 if texture is None else float(np.clip((texture - SHARP) / (SOFT - SHARP), 0, 1))
    return float(SHARP_MOST_HU * (SOFT_MOST_HU / SHARP_MOST_HU) ** soft)
