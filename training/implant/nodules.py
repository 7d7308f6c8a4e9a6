"""Where nodules may sit in real chest CTs that carry implants, and how noisy these are.

What a nodule is and how it gets into a CT: `appliance.quality.implant`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from training.read.volume import F32, F64, Bool


def host_noise(hu: F32) -> float:
    """Noise of a CT in HU: the robust spread of fine detail in its soft tissue."""
    middle = hu[len(hu) // 4 : -len(hu) // 4 : 4]
    smooth = ndimage.gaussian_filter(middle, (0, 2.5, 2.5))
    rest = (middle - smooth)[(smooth > 0) & (smooth < 90)]
    if len(rest) < 1000:
        return 25.0
    return float(np.clip(1.4826 * np.median(np.abs(rest)), 5, 120))


@dataclass(frozen=True)
class Places:
    """Where nodules may sit in a host: points in mm from the volume's outer edge, z y x."""

    deep: F64  # in the lungs, sorted by depth
    depth_mm: F64  # of each of them, to the lung's edge, ascending
    vascular: F64  # in air beside a vessel

    def draw(self, rng: np.random.Generator, diameter_mm: float) -> tuple[str, F64]:
        """A kind of place and a point for a nodule of this size."""
        roll, count = rng.random(), len(self.deep)
        if roll < 0.25 and len(self.vascular):
            return "vascular", self.vascular[rng.integers(len(self.vascular))]
        radius = diameter_mm / 2
        inner = min(int(np.searchsorted(self.depth_mm, radius + 1)), int(0.8 * count))
        if roll < 0.55:
            outer = min(int(np.searchsorted(self.depth_mm, 0.3 * radius)), inner - 1)
            return "pleural", self.deep[rng.integers(max(outer, 0), inner)]
        return "isolated", self.deep[rng.integers(inner, count)]


def find_places(lungs: Bool, hu: F32, spacing: float, avoid: Bool) -> Places:
    """Points in the lungs of an isotropic grid; `avoid` marks lesions that must stay alone."""
    depth = ndimage.distance_transform_edt(lungs) * spacing
    free = lungs & ~avoid
    vessels = (ndimage.gaussian_filter(hu, 1.0 / spacing) > -550) & lungs
    aside = ndimage.distance_transform_edt(~vessels) * spacing
    where = free & (depth > 0.5)
    deep = np.asarray(depth[where], np.float64)
    order = np.argsort(deep, kind="stable")
    points = np.asarray((np.argwhere(where) + 0.5) * spacing, np.float64)
    beside = free & (depth > 6.0) & (aside > 1.0) & (aside < 4.0)
    near = np.asarray((np.argwhere(beside) + 0.5) * spacing, np.float64)
    return Places(points[order], deep[order], near)
