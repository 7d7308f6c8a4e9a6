"""Whether the lungs are whole in the images.

`lungs_head_cm2` and `lungs_feet_cm2`: area of the lungs in the uppermost and the lowest plane of
their grid. They are a flag where the line itself calls the lungs cut there (interpret/segment.py),
so that page and report never disagree.
`lungs_side_cm2`: area over which they meet the edge of the field of view (segment.side_cm2), a flag
from SIDE_CM2 on, which is the limit of the report's `truncated_fov` too.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from appliance.records import Mask

SIDE_CM2: Final = 5.0


def ends_cm2(lungs: Mask) -> tuple[float, float] | None:
    """Area of the lungs in the lowest and the uppermost plane; None where no lungs were found."""
    if not lungs.voxels.any():
        return None
    _, dy, dx = lungs.grid.spacing_mm
    feet, head = (float(np.count_nonzero(lungs.voxels[k])) * dy * dx / 100 for k in (0, -1))
    return feet, head
