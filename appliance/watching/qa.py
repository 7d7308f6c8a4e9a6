"""What was measured of a water phantom, and whether it is as it should be: scanside.qa/1.

Rules.
1. It is no report of a patient: it has no finding, goes to no archive, and is kept by itself
   (store/qa.py). Over MQTT its figures and codes go out as the event `qa` (results/qa.py).
2. What could not be measured is None, never 0. How each figure is measured stands in the module of
   appliance/quality that is named, and whether it is good in quality/passing.py.
3. A code is stable: consumers compare it and translations are keyed by it, so it is never renamed or
   reused.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import Enum
from typing import Final, Literal

from pydantic import ConfigDict, Field

from appliance.reasons import Code
from appliance.report import BundleRef, Digest, Record
from appliance.watching.scanner import Scanner

SCHEMA: Literal["scanside.qa/1"] = "scanside.qa/1"
Verdict = Literal["passed", "failed", "not_measured"]


class QaCode(str, Enum):
    """What is wrong with a phantom or its scanner."""

    WATER_HU = "water_hu"
    HU_SCALE = "hu_scale"
    UNIFORMITY = "uniformity"
    CUPPING = "cupping"
    NOISE = "noise"
    DIAMETER = "diameter"
    NOT_ROUND = "not_round"
    RESPONSE = "response"
    TILT = "tilt"
    OFF_CENTRE = "off_centre"
    BUBBLE = "bubble"


WHAT_TO_DO: Final[dict[QaCode, str]] = {
    QaCode.WATER_HU: "Run the scanner's air calibration and scan again; if water stays off, call the service.",
    QaCode.HU_SCALE: "Run the scanner's air and water calibration; the scale from air to water is off.",
    QaCode.UNIFORMITY: "Look at the edges that differ; run the air calibration and scan again.",
    QaCode.CUPPING: "The middle differs from all edges: run the water calibration (beam hardening) and scan again.",
    QaCode.NOISE: "Look at tube current, thickness and kernel of the protocol; if they are as usual, call the service.",
    QaCode.DIAMETER: "Look whether it is the same phantom; if it is, the size of the pixels is wrong: call the service.",
    QaCode.NOT_ROUND: "Look at the images: a phantom that is not round is deformed, or the geometry is off.",
    QaCode.RESPONSE: "Look at the kernel and the focal spot of the protocol; if they are as usual, call the service.",
    QaCode.TILT: "Align the phantom with the lasers and scan again.",
    QaCode.OFF_CENTRE: "Centre the phantom with the lasers and scan again.",
    QaCode.BUBBLE: "Fill the phantom up with water and scan again.",
}


class WaterFigures(Record):
    """Of the phantom, the median over the slices that were measured unless said."""

    slices: int = Field(ge=1, description="that show the phantom")
    measured: int = Field(ge=1, description="of those: that were measured, spread over all")
    water_hu: float = Field(description="water.py: mean of the middle")
    air_hu: float | None = Field(default=None, description="water.py: median of the air beside it")
    scale: float | None = Field(
        default=None, description="water.py: water less air, divided by 1000 HU"
    )
    edges_hu: tuple[float | None, float | None, float | None, float | None] = Field(
        description="water.py: mean at 12, 3, 6 and 9 o'clock less the middle"
    )
    uniformity_hu: float | None = Field(
        default=None, description="the one of `edges_hu` that is farthest from 0"
    )
    cupping_hu: float | None = Field(default=None, description="the mean of all four `edges_hu`")
    noise_hu: float = Field(ge=0, description="water.py: SD of the middle")
    diameter_mm: float = Field(gt=0, description="rim.py: across the axis of the phantom")
    out_of_round_mm: float = Field(
        ge=0, description="rim.py: longest less shortest diameter, without what the tilt explains"
    )
    tilt_deg: float | None = Field(
        default=None, ge=0, description="water.py: of its axis; None of too short a series"
    )
    off_centre_mm: float = Field(ge=0, description="water.py: from the middle of the image")
    bubble_mm: float = Field(
        ge=0, description="water.py: diameter of the area of the largest air in it, of all slices"
    )
    response_50_per_mm: float | None = Field(
        default=None, gt=0, description="rim.py: frequency at half of the response of the rim, 1/mm"
    )
    response_10_per_mm: float | None = Field(
        default=None, gt=0, description="rim.py: the same at a tenth, 1/mm"
    )


class Expected(Record):
    """What figures are held against that have no value of their own; None: against nothing."""

    diameter_mm: float | None = Field(default=None, gt=0)
    noise_hu: float | None = Field(default=None, gt=0)
    response_50_per_mm: float | None = Field(default=None, gt=0)
    response_10_per_mm: float | None = Field(default=None, gt=0)
    earlier: int = Field(
        default=0, ge=0, description="how many earlier records of this protocol said so"
    )


class QaRecord(Record):
    """scanside.qa/1: one series of a water phantom."""

    schema_: Literal["scanside.qa/1"] = Field(default=SCHEMA, alias="schema")
    report_id: uuid.UUID
    """Of the report that says that the series is set aside; the record goes by its name."""
    study: str = Field(pattern=r"^[0-9a-f]{32}$", description="pseudonym")
    at: datetime = Field(description="when its first image came")
    scanner: Scanner
    bundle: BundleRef
    input_digest: Digest
    verdict: Verdict
    codes: tuple[QaCode, ...] = ()
    figures: WaterFigures | None = Field(default=None, description="null where not measured")
    expected: Expected = Expected()
    reasons: tuple[Code, ...] = Field(default=(), description="why it was not measured")

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})
