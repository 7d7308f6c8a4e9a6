"""What the in-room check may flag: one closed list, each with what to do while the patient is here.

A code is stable: consumers compare it and translations are keyed by it, so it is never renamed or
reused. No remedy asks for more radiation: whether to scan again is decided by people.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class FlagCode(str, Enum):
    """Stable codes of flags."""

    NOT_ANALYSED = "not_analysed"
    FAILED = "failed"
    IMAGES_MISSING = "images_missing"
    LUNGS_CUT_HEAD = "lungs_cut_head"
    LUNGS_CUT_FEET = "lungs_cut_feet"
    LUNGS_CUT_SIDE = "lungs_cut_side"
    BODY_CUT = "body_cut"
    STEPS = "steps"
    NOISE = "noise"
    AIR_HU = "air_hu"
    TISSUE_HU = "tissue_hu"
    SUSPECT_HU = "suspect_hu"


WHAT_TO_DO: Final[dict[FlagCode, str]] = {
    FlagCode.NOT_ANALYSED: "Look at the images yourself: nothing was checked. Do what the reason says.",
    FlagCode.FAILED: "Look at the images yourself: nothing was checked. Then run `scanside doctor`.",
    FlagCode.IMAGES_MISSING: "Send the series again, and look whether all images are on the scanner.",
    FlagCode.LUNGS_CUT_HEAD: "Look at the uppermost images; ask the radiologist whether the missing part is needed.",
    FlagCode.LUNGS_CUT_FEET: "Look at the lowest images; ask the radiologist whether the missing part is needed.",
    FlagCode.LUNGS_CUT_SIDE: "Reconstruct again with a larger field of view; the raw data may still hold what is cut.",
    FlagCode.BODY_CUT: "Reconstruct again with a larger field of view, if what lies outside is needed.",
    FlagCode.STEPS: "Look at this height in the coronal plane; ask the radiologist whether the step matters.",
    FlagCode.NOISE: "Look at dose, thickness and kernel; reconstruct again, smoother or thicker, if that helps.",
    FlagCode.AIR_HU: "Look at air outside the body; if it is not near -1000 HU, call for a calibration.",
    FlagCode.TISSUE_HU: "Look at muscle; if it is not near 50 HU, call for a calibration.",
    FlagCode.SUSPECT_HU: "Look at air and muscle in the images; call for a calibration if they are off.",
}
