"""A chest of two ellipsoids of lung with tubes in them, quick to make: a host for exact pairs."""

from __future__ import annotations

import numpy as np

from training.implant.pairs.pair import Chest


def made_chest(grid_mm: float = 4.0) -> Chest:
    """Lungs of about 180 x 120 x 90 mm each, in a body of 40 HU."""
    shape = tuple(round(mm / grid_mm) for mm in (264, 216, 288))
    axes = [(np.arange(n) + 0.5) * grid_mm - n * grid_mm / 2 for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    lungs = np.zeros(shape, bool)
    for side in (-60.0, 60.0):
        lungs |= (z / 90) ** 2 + (y / 60) ** 2 + ((x - side) / 45) ** 2 < 1
    hu = np.where(lungs, -850.0, 40.0)
    rng = np.random.default_rng(5)
    inside = np.argwhere(lungs)
    for place in inside[rng.integers(len(inside), size=150)]:
        at = [axis[i] for axis, i in zip(axes, place, strict=True)]
        tube = (z - at[0]) ** 2 / 9 + (y - at[1]) ** 2 + (x - at[2]) ** 2 < 36
        hu[tube & lungs] = 20.0
    return Chest("made", hu.astype(np.float32), lungs, grid_mm)
