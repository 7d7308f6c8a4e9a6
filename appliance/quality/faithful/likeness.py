"""How alike two images are: PSNR and SSIM.

Rules.
1. HU are cut to RANGE_HU and counted from its lower end; its width is the range of both.
2. SSIM is that of Z. Wang et al., IEEE Trans. Image Process. 13 (2004) 600: a Gaussian of 1.5
   pixels on 11 x 11, K1 .01, K2 .03, slice by slice, over pixels whose window lies in the image.
3. Both are what scikit-image gives with `gaussian_weights=True, sigma=1.5,
   use_sample_covariance=False, data_range=1400`.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

RANGE_HU: Final = (-1000.0, 400.0)
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


class Likeness:
    """Of pairs of slices, taken one by one."""

    def __init__(self) -> None:
        self._square, self._pixels = 0.0, 0
        self._ssim, self._windows = 0.0, 0

    def add(self, original: NDArray[np.generic], back: NDArray[np.generic]) -> None:
        """One pair [y, x], HU; also one too small for a window."""
        a, b = (_cut(v) for v in (original, back))
        self._square += float(((a - b) ** 2).sum())
        self._pixels += a.size
        if min(a.shape) >= WINDOW:
            seen = ssim_map(a, b)
            self._ssim += float(seen.sum())
            self._windows += seen.size

    @property
    def psnr_db(self) -> float | None:
        """Peak signal to noise, dB; None where there is no difference, or nothing."""
        if not self._square:
            return None
        return -10 * math.log10(self._square / self._pixels)

    @property
    def ssim(self) -> float | None:
        """Mean over all windows; None where there is none."""
        return self._ssim / self._windows if self._windows else None


def ssim_map(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """[y - 10, x - 10]: SSIM of each whole window of two images of range 1."""
    mean_a, mean_b = _mean(a), _mean(b)
    var_a, var_b = _mean(a * a) - mean_a**2, _mean(b * b) - mean_b**2
    both = _mean(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    over = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    seen = over / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    edge = WINDOW // 2
    return np.asarray(seen[edge:-edge, edge:-edge])


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA))


def _cut(values: NDArray[np.generic]) -> NDArray[np.float64]:
    low, high = RANGE_HU
    return np.asarray((np.clip(values.astype(np.float64), low, high) - low) / (high - low))
