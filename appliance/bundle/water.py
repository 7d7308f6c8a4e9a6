"""The line of water phantoms (bundle/lines.OfLine): how far what is measured may be off.

Data only."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

from pydantic import Field

from appliance.bundle.accepts import Accepts
from appliance.bundle.no_findings import NoFindings


class WaterPhantom(NoFindings):
    """The line of a water phantom: it has no network, finds nothing and makes no report. What is
    measured (quality/water.py) is held against the limits that stand here: how far it may be off.

    Water, uniformity and diameter are those of IEC 61223-3-5 and of the makers' manuals.
    """

    kind: Literal["qa"] = "qa"
    version: Literal[1] = 1
    water_hu: float = Field(default=5.0, gt=0, description="of water from 0 HU")
    uniformity_hu: float = Field(default=5.0, gt=0, description="of an edge from the middle")
    scale: float = Field(default=0.03, gt=0, description="of water less air from 1000 HU, a share")
    noise_share: float = Field(
        default=0.5, gt=0, description="of the expected noise, upwards; half of it downwards"
    )
    diameter_mm: float = Field(default=1.0, gt=0, description="from the expected one")
    out_of_round_mm: float = Field(default=2.0, gt=0)
    response_per_mm: float = Field(default=0.05, gt=0, description="from the expected frequencies")
    tilt_deg: float = Field(default=1.0, gt=0)
    off_centre_mm: float = Field(default=20.0, gt=0)
    bubble_mm: float = Field(default=5.0, gt=0)

    @property
    def takes_images(self) -> bool:
        return True

    @property
    def reports(self) -> bool:
        return False

    @property
    def sees_slices(self) -> bool:
        return True

    @property
    def needs_appliance(self) -> str:
        return "0.2.0"

    def reads(self) -> dict[str, set[str]]:
        return {}

    def inputs(self, role: str) -> int:
        return 1

    def allows(self, role: str, ops: Set[str]) -> bool:
        """It has no network."""
        return False

    def limits(self, accepts: Accepts) -> tuple[str, ...]:
        return (
            "Round phantoms of water alone, of 100 to 400 mm; one with inserts is not recognised.",
            "It says what differs, and approves no scanner.",
        )
