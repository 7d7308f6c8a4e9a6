"""Round shapes to implant."""

from __future__ import annotations

import numpy as np

from appliance.quality.implant import SHAPE_MM, Shape, sphere_diameter


def ball(diameter_mm: float, spiculation: int = 1) -> Shape:
    """A ball on the grid of shapes."""
    n = int(np.ceil(diameter_mm / SHAPE_MM)) + 2
    axis = (np.arange(n) - (n - 1) / 2) * SHAPE_MM
    far = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis)))
    filled = np.clip((diameter_mm / 2 - far) / SHAPE_MM + 0.5, 0, 1)
    occupancy = (filled * 255).astype(np.uint8)
    volume = float(occupancy.sum(dtype=np.float64)) / 255 * SHAPE_MM**3
    return Shape(occupancy, sphere_diameter(volume), spiculation)
