"""The in-room check as it is kept beside a report (room.json), shown by the page and sent over MQTT
as the event `checked`.

Rules.
1. It is about one series and bundle, and says what its images are worth; it is no part of the
   report, whose bytes do not depend on it.
2. Two verdicts: `look` where there is at least one flag, else `usable`, which means: nothing that
   was checked speaks against it. There is no third one: before an end of the series is plausible
   there is no check at all.
3. What could not be measured is None, never 0. A value that is None raises no flag.
4. No name, no identifier: figures and texts of this code alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from appliance.reasons import Code
from appliance.report import Record, Sentence
from appliance.room.codes import WHAT_TO_DO, FlagCode

Verdict = Literal["usable", "look"]
Contrast = Literal["yes", "no", "unknown"]
Unit = Literal["HU", "mm", "cm2", "%"]


class RoomValues(Record):
    """What was measured in a series of slices. How each is measured, and where the rule comes from,
    stands in the module of appliance/quality that is named."""

    lungs_head_cm2: float | None = Field(
        default=None, ge=0, description="lungs.py: area of the lungs in the uppermost plane, cm2"
    )
    lungs_feet_cm2: float | None = Field(
        default=None, ge=0, description="lungs.py: area of the lungs in the lowest plane, cm2"
    )
    lungs_side_cm2: float | None = Field(
        default=None, ge=0, description="lungs.py: area of the lungs on the edge of the field, cm2"
    )
    body_edge_percent: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="body.py: share of the edge of the field of view that shows body, median slice",
    )
    step_mm: float | None = Field(
        default=None,
        ge=0,
        description="steps.py: largest move between two slices that their neighbours do not make",
    )
    step_most_mm: float | None = Field(
        default=None, ge=0, description="steps.py: its limit at this distance of slices"
    )
    step_z_mm: float | None = Field(
        default=None, description="steps.py: where, z (LPS) of the upper one of the two slices"
    )
    noise_hu: float | None = Field(
        default=None, ge=0, description="noise.py: lower quartile of the SD in soft tissue"
    )
    noise_thick_hu: float | None = Field(
        default=None, ge=0, description="noise.py: the same, as slices of 2.5 mm would have it"
    )
    texture_per_mm: float | None = Field(
        default=None, ge=0, description="noise.py: mean frequency of the noise"
    )
    lung_edge_hu_per_mm: float | None = Field(
        default=None, ge=0, description="sharpness.py: gradient at edges in the lungs"
    )
    air_noise_hu: float | None = Field(
        default=None,
        ge=0,
        description="noise.py: lower quartile of the SD in air in front of the body",
    )
    air_hu: float | None = Field(
        default=None, description="hounsfield.py: median of the air in front of the body"
    )
    tissue_hu: float | None = Field(
        default=None, description="hounsfield.py: most common HU of even soft tissue"
    )
    blood_hu: float | None = Field(
        default=None, description="contrast.py: upper quartile of the heart and great vessels"
    )
    contrast: Contrast = Field(
        default="unknown", description="contrast.py: whether blood is brighter than muscle"
    )


class Flag(Record):
    """One thing to look at."""

    code: FlagCode
    text: Sentence
    """In English, with the figure."""
    figure: float | None = None
    unit: Unit | None = None
    where: str | None = None
    """What it is about: `z -34.5 mm`, `image 12`, `series`. Never a UID or a name."""
    reason: Code | None = None
    """Of a series that was not analysed, or of which images are missing: why."""
    remedy: str = ""

    @model_validator(mode="before")
    @classmethod
    def _remedy_of_the_code(cls, data: object) -> object:
        if isinstance(data, dict) and "code" in data and not data.get("remedy"):
            return {**data, "remedy": WHAT_TO_DO[FlagCode(data["code"])]}
        return data


class RoomCheck(Record):
    """The verdict with its flags, the gravest first, and all that was measured."""

    verdict: Verdict
    flags: tuple[Flag, ...] = ()
    values: RoomValues | None = Field(
        default=None, description="null of what is no volume, and of what was not analysed"
    )

    @model_validator(mode="after")
    def _look_for_a_reason(self) -> RoomCheck:
        """It says `look` where there is a flag, and only there (rule 2)."""
        if (self.verdict == "look") != bool(self.flags):
            raise ValueError("a check says `look` where there is a flag, and only there")
        return self
