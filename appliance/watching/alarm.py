"""What changed on a scanner, since when, and why it may have: closed lists of codes.

A code is stable: consumers compare it and translations are keyed by it, so it is never renamed or
reused. What an alarm says is a figure and a code; no free text leaves the device.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Literal

from pydantic import Field

from appliance.report import Record


class Statistic(str, Enum):
    """What is watched; how each is measured stands in watching/quality.py."""

    NOISE = "noise"
    TEXTURE = "texture"
    SKIN = "skin"
    LUNG_EDGE = "lung_edge"
    TISSUE = "tissue"
    AIR = "air"
    LUNG_SHARE = "lung_share"
    FINDINGS = "findings"
    ABOVE = "above"
    SCORES = "scores"
    ABSTAINED = "abstained"
    # of radiographs
    MEAN = "mean"
    CONTRAST = "contrast"
    LAPLACIAN = "laplacian"
    HALVES = "halves"


class Cause(str, Enum):
    """What most likely changed (quality/cause.py)."""

    DOSE = "dose"
    SHARPER_KERNEL = "sharper_kernel"
    OFFSET = "offset"
    SCALE = "scale"
    CONTRAST_MEDIUM = "contrast_medium"
    POSITIONING_OR_PROTOCOL = "positioning_or_protocol"
    UNCLEAR = "unclear"


Test = Literal["series", "cusum", "window", "learning", "missing"]
"""One series alone; a sum over series; a window of radiographs against the first ones; a learning
time that was not of one kind; what was always measured and no longer can be."""


class Alarm(Record):
    """One alarm of one row of the library."""

    statistic: Statistic
    test: Test
    size: float
    """In spreads of the row: of the series, or the mean since `since`. Of `learning` the spread of
    the learning time in spreads of the prior, of `missing` 0."""
    since: datetime
    """The first series since the sum was last zero; of `series` that series."""
    cause: Cause
    acknowledged: bool = False
    studies: int = Field(default=0, ge=0, description="how many since `since`")
