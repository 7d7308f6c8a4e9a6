"""Noise of a known power spectrum, as back projection makes it: a ramp under a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """Power proportional to f * exp(-(f / corner)^2), f the radial frequency."""

    pixel_mm: float
    corner_per_mm: float
    side: int = 512

    @property
    def frequency(self) -> F64:
        """[y, x], 1/mm."""
        line = np.fft.fftfreq(self.side, self.pixel_mm)
        return np.asarray(np.hypot(line[:, None], line))

    @property
    def power(self) -> F64:
        found = self.frequency
        return np.asarray(found * np.exp(-((found / self.corner_per_mm) ** 2)))

    def mean_per_mm(self, above_per_mm: float) -> float:
        """Mean frequency of what lies above a frequency."""
        found = self.frequency
        power = np.where(found >= above_per_mm, self.power, 0)
        return float((power * found).sum() / power.sum())

    def noise(self, sd: float, seed: int) -> F64:
        """[y, x]."""
        white = np.random.default_rng(seed).standard_normal((self.side, self.side))
        made = np.fft.ifft2(np.fft.fft2(white) * np.sqrt(self.power)).real
        return np.asarray(made * (sd / made.std()))
