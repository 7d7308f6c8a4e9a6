"""Whether the lungs are whole in the images, and how much of the body they are.

`lungs_head_cm2` and `lungs_feet_cm2`: area of the lungs in the uppermost and the lowest plane of
their grid. They are a flag where the line itself calls the lungs cut there (interpret/segment.py),
so that page and report never disagree.
`lungs_side_cm2`: area over which they meet the edge of the field of view (segment.side_cm2), a flag
from SIDE_CM2 on, which is the limit of the report's `truncated_fov` too.
`lung_share`: share of the whole body (body.py), of all slices together, that lies DEEP_MM inside it
and is less dense than LUNG_HU. It needs no network and no lungs: of a head or a leg it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.records import Mask, Sample

SIDE_CM2: Final = 5.0
LUNG_HU: Final = -500.0
DEEP_MM: Final = 8.0
"""Further out partial volume of the skin is as dense as lung."""


def ends_cm2(lungs: Mask) -> tuple[float, float] | None:
    """Area of the lungs in the lowest and the uppermost plane; None where no lungs were found."""
    if not lungs.voxels.any():
        return None
    _, dy, dx = lungs.grid.spacing_mm
    feet, head = (float(np.count_nonzero(lungs.voxels[k])) * dy * dx / 100 for k in (0, -1))
    return feet, head


def cells(hu: NDArray[np.float32], deep: NDArray[np.bool_]) -> int:
    """How many cells [y, x] of a slice, mean HU, are lung; deep: DEEP_MM inside the body."""
    return int(np.count_nonzero(hu[deep] < LUNG_HU))


def share(samples: Sequence[Sample]) -> float | None:
    """`lung_share`; None where no body is seen."""
    area = sum(one.body_mm2 for one in samples)
    return sum(one.lung_mm2 for one in samples) / area if area > 0 else None
