"""The line of two exams of one person (bundle/lines.OfLine), and what a change must exceed.

Data only."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

from pydantic import Field, model_validator

from appliance.bundle.accepts import Accepts
from appliance.bundle.heads import Density, DisplaceHead
from appliance.bundle.no_findings import NoFindings
from appliance.report import Record


class Repeatability(Record):
    """How far two measurements of one unchanged nodule lie apart: a row of the manifest's table."""

    size_mm: tuple[float, float] = Field(description="equivalent diameter, from and below")
    density: Density
    kernel: Literal["same", "other"] = Field(description="of both exams")
    volume_percent: float = Field(gt=0, description="standard deviation of the difference")
    axis_mm: float = Field(gt=0, description="of the mean axis, standard deviation")
    n: int = Field(ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Repeatability:
        if not 0 <= self.size_mm[0] < self.size_mm[1]:
            raise ValueError("`size_mm` ends before it begins")
        return self


class Compare(NoFindings):
    """The line of two exams of one person: it lays the earlier one over today's.

    It takes no images and reports no finding: a comparison is made of what is kept of both exams
    (lines/compare.py). What a change must exceed stands here: the larger of what was measured of
    unchanged nodules (`repeatability`) and the least limits, since breath is in no data.
    """

    kind: Literal["compare"] = "compare"
    version: Literal[1] = 1
    displace: DisplaceHead
    repeatability: tuple[Repeatability, ...] = ()
    least_limit_percent: float = Field(default=25.0, gt=0)
    least_limit_mm: float = Field(default=1.5, gt=0)

    @property
    def takes_images(self) -> bool:
        return False

    @property
    def reports(self) -> bool:
        return True

    @property
    def sees_slices(self) -> bool:
        return False

    @property
    def needs_appliance(self) -> str:
        return "0.2.0"

    def reads(self) -> dict[str, set[str]]:
        return {"displace": {self.displace.output}}

    def inputs(self, role: str) -> int:
        return 2

    def allows(self, role: str, ops: Set[str]) -> bool:
        """No op: what the network sees is made of entries, as its head says."""
        return not ops

    def limits(self, accepts: Accepts) -> tuple[str, ...]:
        return (
            f"A change of under {self.least_limit_percent:g} % of the volume is within error.",
            f"So is one of under {self.least_limit_mm:g} mm of the mean axis.",
            "It compares exams, and says nothing of a single one.",
        )
