"""Whether contrast medium was given: the blood in heart and great vessels against muscle.

`blood_hu`: in PLANES planes of the middle half of the lungs' height, what lies between the two
lungs, from a quarter to three fifths of their depth (heart and great vessels; spine and breastbone
lie outside), MARGIN_MM away from the lungs; of the voxels in SOFT_HU the upper quartile, because
fat and the wall of the heart lie there too. Voxels are those of the grid of the lungs, a few mm
wide, so noise hardly counts.
`contrast`: yes where blood is YES_HU or more above `tissue_hu`, no where it is at most NO_HU above,
else unknown. Blood without contrast medium is 30 to 50 HU, as muscle is. The eight shared CTs: two
without are 7 HU below and 1 HU below, six with are 95 HU above or more (docs/in-room-check.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import fast
from appliance.records import Mask, Stack
from appliance.room.check import Contrast

PLANES: Final = 12
HEIGHT = 0.25, 0.75
DEPTH = 0.25, 0.6
APART_MM: Final = 20.0
"""Between two lungs, at least, else they meet there and nothing lies between."""
MARGIN_MM: Final = 6.0
SOFT_HU = -20.0, 500.0
FEWEST_VOXELS: Final = 300
YES_HU, NO_HU = 50.0, 25.0

Bool = NDArray[np.bool_]


def blood(stack: Stack, lungs: Mask) -> float | None:
    """`blood_hu`; None where too little lies between two lungs."""
    heights = np.flatnonzero(lungs.voxels.any(axis=(1, 2)))
    if not len(heights):
        return None
    low, reach = float(heights[0]), float(heights[-1] - heights[0])
    found = []
    for part in np.linspace(*HEIGHT, PLANES):
        k = round(low + part * reach)
        where = _between(lungs.voxels[k], lungs.grid.spacing_mm[1:])
        if where.any():
            found.append(_plane_at(stack, lungs, k)[where])
    values = np.concatenate(found) if found else np.zeros(0, np.float32)
    soft = values[(values > SOFT_HU[0]) & (values < SOFT_HU[1])]
    return None if len(soft) < FEWEST_VOXELS else float(np.quantile(soft, 0.75))


def given(blood_hu: float | None, tissue_hu: float | None) -> Contrast:
    """`contrast`."""
    if blood_hu is None or tissue_hu is None:
        return "unknown"
    if blood_hu - tissue_hu >= YES_HU:
        return "yes"
    return "no" if blood_hu - tissue_hu <= NO_HU else "unknown"


def _between(lungs: Bool, pixel_mm: tuple[float, float]) -> Bool:
    """[y, x]: what lies between the two lungs of a plane, in DEPTH of them."""
    found = np.zeros(lungs.shape, np.bool_)
    rows = np.flatnonzero(lungs.any(axis=1))
    if not len(rows):
        return found
    front, deep = int(rows[0]), int(rows[-1] - rows[0])
    aside = max(1, round(MARGIN_MM / pixel_mm[1]))
    middle = slice(front + int(DEPTH[0] * deep), front + int(DEPTH[1] * deep))
    inside, columns = lungs[middle], np.arange(lungs.shape[1])
    upto = np.maximum.accumulate(np.where(inside, columns, -1), axis=1)
    before = np.pad(upto[:, :-1], ((0, 0), (1, 0)), constant_values=-1)  # the last lung before here
    gaps = np.where(inside & (before >= 0), columns - before, 0)
    right = gaps.argmax(axis=1)[:, None]  # where the widest gap of each row ends
    left = np.take_along_axis(before, right, axis=1)
    wide = np.take_along_axis(gaps, right, axis=1) * pixel_mm[1] >= APART_MM
    found[middle] = wide & (columns >= left + aside) & (columns <= right - aside)
    return found


def _plane_at(stack: Stack, lungs: Mask, k: int) -> NDArray[np.float32]:
    """[y, x]: HU of the slice that lies nearest to a plane of the lungs, on their grid."""
    height = lungs.grid.to_lps @ np.array([k, 0, 0, 1.0])
    first = np.array(stack.planes[0].geometry.position_lps_mm)
    along = float((height[:3] - first) @ np.array(stack.normal_lps))
    plane = stack.planes[int(np.abs(stack.z_mm - along).argmin())]
    target = (lungs.grid.spacing_mm[1], lungs.grid.spacing_mm[2])
    if target[0] == target[1] and target[0] in plane.resampled:
        return plane.resampled[target[0]]
    return fast.inplane(plane.native, plane.geometry.spacing_mm, target)
