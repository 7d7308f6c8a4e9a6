"""What was measured of one series, kept beside its report as quality.json.

Rules.
1. It is a function of pixels, bundle and settings, never of what the box saw before; and no part of
   a report, whose bytes do not depend on it.
2. What could not be measured is None, never 0. How each is measured, its unit and where the rule
   comes from stand in the module of appliance/quality that is named.
3. Figures are rounded to what means something, so that two machines whose libraries add in another
   order keep the same.
4. It goes neither into an MQTT message nor into an object for an archive.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.report import Record
from appliance.watching.scanner import Scanner

SCHEMA: Literal["scanside.quality/1"] = "scanside.quality/1"


class VolumeQuality(Record):
    """Of slices of one volume, on their own pixels."""

    of: Literal["volume"] = "volume"
    noise_hu: float | None = Field(
        default=None, ge=0, description="noise.py: lower quartile of local SD in soft tissue, HU"
    )
    texture_per_mm: float | None = Field(
        default=None, ge=0, description="noise.py: mean frequency of the noise, 1/mm"
    )
    skin_hu_per_mm: float | None = Field(
        default=None, ge=0, description="sharpness.py: gradient at the skin, HU/mm"
    )
    lung_edge_hu_per_mm: float | None = Field(
        default=None, ge=0, description="sharpness.py: gradient at edges in the lungs, HU/mm"
    )
    tissue_hu: float | None = Field(
        default=None, description="hounsfield.py: mode of the eroded body in 0 to 100 HU"
    )
    air_hu: float | None = Field(
        default=None, description="hounsfield.py: median of the air in front of the body, HU"
    )
    lung_share: float | None = Field(
        default=None, ge=0, le=1, description="lungs.py: share of the body that is lung"
    )
    diameter_mm: float | None = Field(
        default=None,
        ge=0,
        description="body.py: water-equivalent diameter (AAPM report 220), median slice, mm",
    )
    step_hu: float | None = Field(
        default=None, ge=0, description="steps.py: how much neighbouring slices differ, HU"
    )
    metal_share: float | None = Field(
        default=None, ge=0, le=1, description="body.py: share of the body above 2500 HU"
    )
    contrast: Literal["yes", "no", "unknown"] = Field(
        default="unknown", description="contrast.py: whether blood is brighter than muscle"
    )


class RadiographQuality(Record):
    """Of one radiograph, on the input of the network, in its own unit."""

    of: Literal["radiograph"] = "radiograph"
    mean: float | None = Field(default=None, description="radiograph.py: mean")
    contrast: float | None = Field(default=None, ge=0, description="radiograph.py: SD")
    laplacian: float | None = Field(
        default=None, ge=0, description="radiograph.py: SD of the Laplacian"
    )
    halves: float | None = Field(
        default=None, description="radiograph.py: left half less right half, means"
    )


class Outputs(Record):
    """What was found in it, for a scanner whose outputs change."""

    analysed: bool
    findings: int = Field(default=0, ge=0)
    scored: int = Field(default=0, ge=0)
    above: int = Field(default=0, ge=0, description="of those scored: at or above the threshold")
    median_score: float | None = Field(default=None, ge=0, le=1)
    unsure: int = Field(default=0, ge=0)


class SeriesQuality(Record):
    """All that was measured of a series, whose images they are, and what came out."""

    schema_: Literal["scanside.quality/1"] = Field(default=SCHEMA, alias="schema")
    scanner: Scanner
    measured: tuple[Annotated[VolumeQuality | RadiographQuality, Field(discriminator="of")], ...]
    """One of a volume, one of each radiograph in the order of `key_image`; none of a series of
    which nothing could be measured."""
    outputs: Outputs
