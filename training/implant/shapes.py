"""Real nodules' shapes from outlines.

Rules. A shape is one reader's annotation as occupancy [z, y, x] on a 0.6 mm grid. Outlines are
excluded, because LIDC marks the first pixel outside; slices are joined through their signed
distance maps. Which patients they are of: `training.implant.donors`.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from appliance.quality.implant import SHAPE_MM, Shape, sphere_diameter
from training.read.volume import F32, Bool


def occupancy_of(outlines: Sequence[tuple[float, npt.NDArray[np.int32]]], pixel_mm: float) -> F32:
    """Occupancy on the SHAPE_MM grid from (z in mm, outline [n, 2] as row, column) of one
    annotation.

    Slices are joined by interpolating their signed distance maps.
    """
    corners = np.concatenate([o for _, o in outlines])
    low, high = corners.min(0) - 3, corners.max(0) + 3
    rows, columns = (int(v) for v in high - low + 1)
    heights = sorted({z for z, _ in outlines})
    maps = []
    for height in heights:
        plane = np.zeros((rows, columns), np.uint8)
        for z, outline in outlines:
            if z == height:
                points = (outline - low)[:, ::-1].astype(np.int32).reshape(-1, 1, 2)
                cv2.fillPoly(plane, [points], 1)
                cv2.polylines(plane, [points], True, 0)
        maps.append(_signed(plane > 0, pixel_mm))
    gap = float(np.median(np.diff(heights))) if len(heights) > 1 else 2.0
    cap = np.minimum(maps[0], -0.5 * gap), np.minimum(maps[-1], -0.5 * gap)
    stack = np.stack([cap[0], *maps, cap[1]])
    levels = np.array([heights[0] - gap, *heights, heights[-1] + gap])
    fine = np.arange(levels[0], levels[-1] + 1e-6, SHAPE_MM)
    count = [int(np.ceil(rows * pixel_mm / SHAPE_MM)), int(np.ceil(columns * pixel_mm / SHAPE_MM))]
    planes = np.stack([cv2.resize(m, (count[1], count[0])) for m in stack])
    upper = np.clip(np.searchsorted(levels, fine), 1, len(levels) - 1)
    part = ((fine - levels[upper - 1]) / (levels[upper] - levels[upper - 1]))[:, None, None]
    distance = planes[upper - 1] * (1 - part) + planes[upper] * part
    return np.asarray(np.clip(distance / SHAPE_MM + 0.5, 0, 1), np.float32)


def _signed(mask: Bool, pixel_mm: float) -> F32:
    """Distance to the edge in mm, positive inside."""
    inner = ndimage.distance_transform_edt(mask)
    outer = ndimage.distance_transform_edt(~mask)
    return np.asarray((inner - outer - np.where(mask, 0.5, -0.5)) * pixel_mm, np.float32)


def shape_of(occupancy: F32, spiculation: int) -> Shape | None:
    """A Shape, cropped to what is occupied; None outside 3.5-45 mm."""
    diameter = sphere_diameter(float(occupancy.sum()) * SHAPE_MM**3)
    if not 3.5 <= diameter <= 45:
        return None
    filled = np.argwhere(occupancy > 0)
    low, high = filled.min(0), filled.max(0) + 1
    cut = occupancy[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return Shape((cut * 255).astype(np.uint8), diameter, spiculation)
