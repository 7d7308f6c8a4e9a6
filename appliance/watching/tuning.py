"""A tuning: what one scanner's series are to be given before they are looked at, as data.

Rules.
1. It is never active by itself: a trial on implants proposes one, and a person accepts it
   (store/tunings.py).
2. It applies by what is measured in a series, never by tags, which may lie: `scanner` says on whose
   row it was tried, and for whom it counts is `from_per_mm` and `from_hu`.
3. Its digest is of what it does and when, and stands in each report that was made with it.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from appliance.report import Record
from appliance.watching.scanner import Scanner

SCHEMA: Literal["scanside.tuning/1"] = "scanside.tuning/1"


class Tuning(Record):
    """Soften what networks of detection see in series of sharp texture (quality/tuning.py)."""

    schema_: Literal["scanside.tuning/1"] = Field(default=SCHEMA, alias="schema")
    scanner: Scanner
    soften_mm: float = Field(gt=0, le=4, description="SD of the op `soften`, version 1")
    from_per_mm: float = Field(
        gt=0, description="for series whose noise has at least this mean frequency, 1/mm"
    )
    from_hu: float = Field(default=0.0, ge=0, description="and at least so much noise, HU")

    @property
    def digest(self) -> str:
        """SHA-256 of the tuning as canonical JSON."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()
