"""A tuning that a trial on implants found better on one scanner. It is never active by itself: a
person accepts it (`scanside drift accept`), and until then nothing is done with it."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from appliance.report import Digest, Record
from appliance.watching.scanner import Scanner


class Proposal(Record):
    """One tuning, and the figures that speak for it."""

    scanner: Scanner
    bundle: Digest
    at: datetime
    soften_mm: float = Field(gt=0)
    """SD of the op `soften` that is proposed, mm."""
    series: int = Field(ge=1)
    implants: int = Field(ge=1)
    sensitivity: float = Field(ge=0, le=1)
    """As the scanner is analysed now."""
    tuned: float = Field(ge=0, le=1)
    """With the tuning, on the same implants."""
    rise_low: float
    rise_high: float
    """Interval of the rise over series, at the level of its step in Holm's procedure."""
    beside: float = Field(ge=0)
    """Findings a series that are no implant, as it is analysed now."""
    beside_tuned: float = Field(ge=0)
