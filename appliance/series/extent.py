"""Steps, thickness, cover: planes in order of rising z against the intended use. Pure.

Rules. Each reason names the figure; 1 % is rounding.

- steps. Their median is the spacing. A step of more than 1.5 medians is a hole; one hole of at most
  `max_gap_mm` is the limitation GAP_FILLED, more or wider is GAP_TOO_WIDE. Where over a fifth of
  all steps are that wide they are no holes but the way it was made: the widest step is then the
  spacing that counts. Steps more than a tenth off the median: limitation IRREGULAR_SPACING.
- the widest step that is no hole, and the thickest Slice Thickness, against the intended use:
  SPACING_TOO_WIDE or SPACING_LIMITED, THICKNESS_TOO_WIDE or THICKNESS_LIMITED.
- enough slices and cover (first to last centre): TOO_FEW_SLICES, COVER_TOO_SHORT.
- a field of view of more than 1 m (no scanner reconstructs 0.9) or a cover of more than 2.5 m (no
  table moves as far) is an impossible value: INVALID_VALUE.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.accepts import Accepts, Limits
from appliance.reasons import Code
from appliance.records import Plane
from appliance.report import Reason

MAX_GAP_MM = 10.0  # where no bundle says otherwise (DESIGN: the line)
SAME_POSITION_MM = 0.05
HOLE_STEPS = 1.5
HOLE_SHARE = 0.2
IRREGULAR_RATIO = 0.1
ROUNDING_RATIO = 1.01
WIDEST_MM = 1000.0
LONGEST_MM = 2500.0
_NAMED = 3

Points = NDArray[np.float64]


def place(plane: Plane) -> str:
    """Where the image lies, for a person."""
    return f"z {plane.geometry.position_lps_mm[2]:.1f} mm"


def steps(
    planes: Sequence[Plane], z: Points, accepts: Accepts | None
) -> tuple[float, list[Reason], list[Reason]]:
    """Spacing in mm (0 of a single image); reasons and limitations of spacing, thickness, holes.

    `z`: mm along the normal, one a plane, rising. `accepts` None: no limits of a bundle.
    """
    reasons: list[Reason] = []
    limitations: list[Reason] = []
    if len(z) < 2:
        return 0.0, reasons, limitations
    rises = np.diff(z)
    spacing = float(np.median(rises))
    wide = rises > HOLE_STEPS * spacing
    if wide.sum() > max(1.0, HOLE_SHARE * len(rises)):
        wide[:] = False
    widest = float(rises[~wide].max())
    if accepts is not None:
        limits = accepts.spacing_mm
        verdict = _within(widest, limits, Code.SPACING_TOO_WIDE, Code.SPACING_LIMITED, "spacing")
        thick = max((p.header.thickness_mm or 0.0 for p in planes), default=0.0)
        also = _within(thick, limits, Code.THICKNESS_TOO_WIDE, Code.THICKNESS_LIMITED, "thickness")
        for found, refusal in (verdict, also):
            (reasons if refusal else limitations).extend(found)
    off = float(np.abs(rises[~wide] - spacing).max())
    if off > max(IRREGULAR_RATIO * spacing, SAME_POSITION_MM):
        low, high = float(rises[~wide].min()), widest
        text = f"steps between images vary from {low:.2f} to {high:.2f} mm, median {spacing:.2f}"
        limitations.append(_reason(Code.IRREGULAR_SPACING, text))
    if wide.any():
        largest = float(rises[wide].max())
        most = accepts.max_gap_mm if accepts is not None else MAX_GAP_MM
        below = [p for p, hole in zip(planes, wide, strict=False) if hole]
        shown = ", ".join(place(p) for p in below[:_NAMED])
        if len(below) == 1 and largest <= most + SAME_POSITION_MM:
            text = f"a hole of {largest:.1f} mm above {shown} was filled from both sides"
            limitations.append(_reason(Code.GAP_FILLED, text, place(below[0])))
        else:
            text = f"{len(below)} holes of up to {largest:.1f} mm above {shown}"
            reasons.append(_reason(Code.GAP_TOO_WIDE, text, place(below[0])))
    return spacing, reasons, limitations


def _within(
    value: float, limits: Limits, refused: Code, limited: Code, what: str
) -> tuple[list[Reason], bool]:
    """(reasons, whether they refuse) of a spacing or thickness in mm."""
    if value > limits.most * ROUNDING_RATIO:
        text = f"{what} is {value:.2f} mm; at most {limits.most:g} is meant to be analysed"
        return [_reason(refused, text)], True
    if value > limits.limited * ROUNDING_RATIO:
        text = f"{what} is {value:.2f} mm, above {limits.limited:g}: only masses are looked for"
        return [_reason(Code.MASSES_ONLY, text)], False
    if value > limits.full * ROUNDING_RATIO:
        small = limits.limited_min_diameter_mm
        text = f"{what} is {value:.2f} mm, above {limits.full:g}: nothing under {small:g} mm"
        return [_reason(limited, text + " is reported, no volume")], False
    return [], False


def extent(planes: Sequence[Plane], z: Points, accepts: Accepts | None) -> list[Reason]:
    """Reasons of the number of images, their cover and their field of view."""
    reasons = []
    needed = accepts.min_slices if accepts is not None else 2
    if len(planes) < needed:
        text = f"{len(planes)} images; at least {needed} are needed"
        reasons.append(_reason(Code.TOO_FEW_SLICES, text))
    cover = float(z[-1] - z[0])
    if accepts is not None and cover < accepts.cover_mm:
        text = f"the images cover {cover:.0f} mm; at least {accepts.cover_mm:g} mm are needed"
        reasons.append(_reason(Code.COVER_TOO_SHORT, text))
    if cover > LONGEST_MM:
        text = f"the images cover {cover:.0f} mm; no scan is longer than {LONGEST_MM:.0f} mm"
        reasons.append(_reason(Code.INVALID_VALUE, text))
    at, (rows, columns) = planes[0].geometry.spacing_mm, planes[0].native.shape
    widest = max(rows * at[0], columns * at[1])
    if widest > WIDEST_MM:
        text = f"the field of view is {widest:.0f} mm; no scanner has more than {WIDEST_MM:.0f} mm"
        reasons.append(_reason(Code.INVALID_VALUE, text))
    return reasons


def _reason(code: Code, text: str, where: str = "series") -> Reason:
    return Reason(code=code, text=text, where=where)
