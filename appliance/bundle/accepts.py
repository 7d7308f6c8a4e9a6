"""What a bundle is meant for: the intended use as figures and words that a series is held against.

A missing tag passes on to a check of the content; a contrary value refuses, but for a body part,
which the images may overrule (bundle/match.py says how each tag is read). The figures of slices
bind a line that sees slices alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from appliance.report import Record


class Limits(Record):
    """Spacing or thickness in mm: full up to `full`, limited up to `limited`, from there to
    `masses` only masses are looked for (None: not at all), refused above."""

    full: float = Field(gt=0)
    limited: float = Field(gt=0)
    masses: float | None = Field(default=None, gt=0)
    limited_min_diameter_mm: float = Field(
        default=8.0, description="findings below this are not reported when limited"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Limits:
        if self.limited < self.full:
            raise ValueError("`limited` is below `full`")
        if self.masses is not None and self.masses < self.limited:
            raise ValueError("`masses` is below `limited`")
        return self

    @property
    def most(self) -> float:
        """Above this it is refused."""
        return self.limited if self.masses is None else self.masses


NO_SLICES = Limits(full=1000.0, limited=1000.0)
"""Of a bundle for single images: it binds nothing."""


class Accepts(Record):
    """What a bundle is meant for. The figures of slices say nothing of single images."""

    modality: tuple[str, ...]
    body_part: tuple[str, ...] = Field(description="upper case; substring of BodyPartExamined")
    required: tuple[Literal["age", "body_part"], ...] = Field(
        default=(), description="where this is missing or not understood, the bundle refuses"
    )
    spacing_mm: Limits = NO_SLICES
    cover_mm: float = Field(default=0.0, ge=0, description="least extent along the normal")
    min_slices: int = Field(default=10, ge=1)
    max_gap_mm: float = 10.0
    kernels_preferred: tuple[str, ...] = ()
    age_years: tuple[float, float] | None = None
    organ_ml: float = Field(default=500.0, description="least volume of the segmented organ")

    @model_validator(mode="after")
    def _in_order(self) -> Accepts:
        if self.age_years is not None and self.age_years[1] < self.age_years[0]:
            raise ValueError("`age_years` ends before it begins")
        if self.age_years is None and "age" in self.required:
            raise ValueError("`required` names the age, but there is no `age_years`")
        return self
