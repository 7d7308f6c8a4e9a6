"""A made-up chest for painted disease: two lungs with vessels in a body, in air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from training.implant.disease.chest import Chest, make_chest
from training.read.volume import F32, Bool

EXTENT_MM = (240.0, 210.0, 300.0)
AIR_HU, BODY_HU, LUNG_HU, VESSEL_HU = -1000.0, 40.0, -860.0, 60.0
NOISE_HU = 15.0


@dataclass(frozen=True)
class TwoLungs:
    """The chest as arrays [z, y, x], +z to the head, +y to the back, +x to the left."""

    hu: F32
    spacing: tuple[float, float, float]
    right: Bool
    left: Bool
    heart: Bool

    def chest(self) -> Chest:
        """As a chest."""
        return make_chest(self.hu, self.spacing, self.right, self.left)


def two_lungs(spacing: tuple[float, float, float] = (3.0, 3.0, 3.0)) -> TwoLungs:
    """Oval lungs of about 1.5 litres each, vessels of 4 mm every 24 mm, a heart between them."""
    sizes = [round(e / s) for e, s in zip(EXTENT_MM, spacing, strict=True)]
    z, y, x = (
        ((np.arange(n) + 0.5) * s - e / 2).reshape(shape)
        for n, s, e, shape in zip(
            sizes, spacing, EXTENT_MM, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True
        )
    )
    body = (y / 98) ** 2 + (x / 140) ** 2 + 0 * z < 1
    heart = (z + 20) ** 2 + (y + 20) ** 2 + x**2 < 45**2
    right, left = (
        ((z / 105) ** 2 + (y / 75) ** 2 + ((x - at) / 48) ** 2 < 1) & ~heart for at in (-65, 65)
    )
    lungs = right | left
    vessels = ((y - 12) % 24 < 4) & ((x - 12) % 24 < 4) & (np.abs(z) < 200)
    hu = np.where(body, BODY_HU, AIR_HU)
    hu = np.where(lungs, np.where(vessels, VESSEL_HU, LUNG_HU), hu)
    hu = ndimage.uniform_filter(hu, 2)  # partial volume: walls are no steps
    noise = NOISE_HU * np.random.default_rng(5).standard_normal(hu.shape)
    return TwoLungs((hu + noise).astype(np.float32), spacing, right, left, heart & ~lungs)
