"""Which lung is missing: one that is opaque or was taken out must not read as one without findings.

Rules.
1. A part of the lung mask is of the side on which its centre of mass lies, seen from the middle of
   the body; a part that holds both lungs (segment.BOTH_LUNGS) is split there. So a lung that has
   grown over the middle, where the other one was taken out, is of one side as a whole.
2. The middle of the body is the median, over planes between the lungs' ends, of the middle of the
   largest thing denser than BODY_HU.
3. A lung is missing where its volume is less than a share of the other one's. Nothing is said where
   lungs are cut at an end of the series or at the side: what is not in the images is not missing.
   There the rule of before stands (segment.one_lung), which names no side.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.interpret import segment
from appliance.preprocess import plan
from appliance.reasons import Code
from appliance.records import Mask, Pair, Plane, Stack
from appliance.report import Coverage, Reason

BODY_HU = -300
PLANES = 15
"""So many planes are enough for a median."""
PIXEL_STEP = 2
"""Every second pixel of a plane tells where the body ends."""


def limitation(
    lungs: Mask, coverage: Coverage, stack: Stack, share: float | None
) -> tuple[Reason, ...]:
    """ONE_LUNG, with its side where rule 3 says it; `share` is that of rule 3, None where the
    bundle has none."""
    cut = segment.side_cm2(lungs, any(plane.padding for plane in stack.planes)) > segment.SIDE_CM2
    if share is None or coverage.lungs != "covered" or cut:
        return segment.one_lung(lungs)
    left, right = volumes_ml(lungs, body_middle_mm(stack, coverage))
    if min(left, right) >= share * max(left, right):
        return ()
    missing, other = ("left", "right") if left < right else ("right", "left")
    percent = 100 * min(left, right) / max(left, right)
    text = f"The {missing} lung is missing or opaque: {percent:.0f} % of the {other} one's volume."
    return (Reason(code=Code.ONE_LUNG, text=text, where="series"),)


def volumes_ml(lungs: Mask, middle: float) -> tuple[float, float]:
    """Left and right lung in millilitres (rule 1); `middle`: x of the body's middle (LPS mm)."""
    found = segment.found_in(lungs.voxels)
    at, owner = found.places(2)  # an eighth of the voxels tells where parts lie
    if len(np.unique(owner)) < len(found.sizes):
        at, owner = found.places(1)
    x, y = plan.to_lps(lungs.grid, at)[:, :2].T
    left = 0.0
    for part, size in enumerate(found.sizes.tolist(), start=1):
        left += size * float(np.mean(_lies_left(x[owner == part], y[owner == part], middle)))
    voxel_ml = float(np.prod(lungs.grid.spacing_mm)) / 1000
    return left * voxel_ml, (float(found.sizes.sum()) - left) * voxel_ml


def left_lung(lungs: Mask, middle: float) -> NDArray[np.bool_]:
    """Which voxels [z, y, x] of the lungs are of the left one (rule 1); `middle` as above."""
    found = segment.found_in(lungs.voxels)
    left = np.zeros(lungs.voxels.shape, np.bool_)
    at, owner = found.places(1)
    x, y = plan.to_lps(lungs.grid, at)[:, :2].T
    for part in range(1, len(found.sizes) + 1):
        own = owner == part
        left[tuple(at[own].T)] = _lies_left(x[own], y[own], middle)
    return left


def _lies_left(x: NDArray[np.float64], y: NDArray[np.float64], middle: float) -> NDArray[np.bool_]:
    """Of each place of a part, in LPS mm, whether it is of the left lung (rule 1)."""
    both = np.ptp(x) > segment.BOTH_LUNGS * np.ptp(y)
    return np.asarray(x > middle if both else np.full(len(x), x.mean() > middle))


def body_middle_mm(stack: Stack, coverage: Coverage) -> float:
    """x of the middle of the body between the ends of its lungs, LPS mm (rule 2)."""
    return middle_mm(stack, coverage.lungs_z_mm or plan.extent(stack))


def middle_mm(stack: Stack, z_mm: Pair) -> float:
    """x of the middle of the body between two heights, LPS mm (rule 2); of a body that no plane
    shows, that of the planes."""
    low, high = z_mm
    here = [plane for plane in stack.planes if low <= plan.centre(plane)[2] <= high]
    between = here or stack.planes
    chosen = np.unique(np.linspace(0, len(between) - 1, PLANES).round().astype(int))
    middles = [_middle_of(between[i]) for i in chosen.tolist()]
    seen = [m for m in middles if m is not None]
    return float(np.median(seen or [plan.centre(plane)[0] for plane in between]))


def _middle_of(plane: Plane) -> float | None:
    """x of the middle of the largest thing denser than BODY_HU in a plane; None where there is
    none."""
    dense = (plane.native[::PIXEL_STEP, ::PIXEL_STEP] > BODY_HU).astype(np.uint8)
    box = _around_middle(dense) or _largest(dense)
    if box is None:
        return None
    left, top, width, height = box
    row, column = (top + (height - 1) / 2) * PIXEL_STEP, (left + (width - 1) / 2) * PIXEL_STEP
    where = plane.geometry
    across = column * where.spacing_mm[1] * where.row_lps[0]
    return float(
        where.position_lps_mm[0] + across + row * where.spacing_mm[0] * where.column_lps[0]
    )


def _around_middle(dense: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """The box (left, top, width, height) of what lies at or below the middle, if that is more than
    half of all and therefore the largest; mostly it is, and costs a fifth of `_largest`."""
    rows, columns = dense.shape
    below = np.flatnonzero(dense[rows // 2 :, columns // 2])
    if not len(below):
        return None
    seed = columns // 2, rows // 2 + int(below[0])
    area, _, _, box = cv2.floodFill(dense.copy(), None, seed, 2, flags=4)
    left, top, width, height = box
    return (left, top, width, height) if 2 * area > cv2.countNonZero(dense) else None


def _largest(dense: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """The box of the largest face-connected thing; None where there is none."""
    count, _, boxes, _ = cv2.connectedComponentsWithStats(dense, connectivity=4)
    if count < 2:
        return None
    left, top, width, height, _ = boxes[1 + int(np.argmax(boxes[1:, cv2.CC_STAT_AREA]))].tolist()
    return left, top, width, height
