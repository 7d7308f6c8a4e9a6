"""How large a pixel of a radiograph is, and in which plane. Pure.

Rules (PS3.3 10.7.1.1)
1. Imager Pixel Spacing (0018,1164) is that at the front of the detector; nearer to the tube things
   are shown larger than they are.
2. Pixel Spacing (0028,0030) is that in the patient where Pixel Spacing Calibration Type (0028,0A02)
   says how it was found, or where it is another one than Imager Pixel Spacing.
3. Where the two are the same, nothing was corrected: it is that at the detector.
4. Pixel Spacing alone does not say in which plane it is.
5. Where neither is there, nothing is known, and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from appliance.records import Pair
from appliance.series.elements import Elements

SPACING, IMAGER_SPACING, CALIBRATION = 0x00280030, 0x00181164, 0x00280A02
TAGS: Final = (SPACING, IMAGER_SPACING, CALIBRATION)
_SAME: Final = 1e-3
"""A share: decimal strings are rounded."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Of the image as it was sent."""

    spacing_mm: Pair
    """Between rows, between columns."""
    at: Literal["patient", "detector", "unknown"]

    def width_mm(self, to_stored: NDArray[np.float64]) -> float:
        """Of a pixel of the upright image, from which `to_stored` leads back."""
        # a step to the next column upright is a step along the rows or the columns as sent
        down, across = abs(to_stored[0, 1]), abs(to_stored[1, 1])
        return float(down * self.spacing_mm[0] + across * self.spacing_mm[1])


def of(e: Elements) -> Scale | None:
    """None where the image does not say it. SeriesRefused for an impossible value."""
    imager = _sides(e, IMAGER_SPACING, "Imager Pixel Spacing")
    spacing = _sides(e, SPACING, "Pixel Spacing")
    calibrated = e.text(CALIBRATION, "Pixel Spacing Calibration Type") is not None
    if spacing is None:
        return None if imager is None else Scale(imager, "detector")
    if calibrated:
        return Scale(spacing, "patient")
    if imager is None:
        return Scale(spacing, "unknown")
    same = all(abs(a - b) <= _SAME * b for a, b in zip(spacing, imager, strict=True))
    return Scale(spacing, "detector" if same else "patient")


def _sides(e: Elements, tag: int, name: str) -> Pair | None:
    found = e.numbers(tag, name, 2)
    if found is None or min(found) <= 0:
        return None
    return found[0], found[1]
