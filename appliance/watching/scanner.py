"""Whose images a series is made of: the key of a row in the library of scanners.

Rules.
1. Of the headers alone; a part that is absent is UNKNOWN, and never guessed.
2. The serial number of the device is a keyed hash, so that a row that is exported without it names
   no device. No part names a patient, a hospital or a person.
3. kVp and thickness are classes (quality/library.py), because tags of one protocol differ by a
   little.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from appliance.report import Record

UNKNOWN = "unknown"
Part = Annotated[str, Field(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class Tags:
    """What the images of a series say of the device that made them; None where they do not, or do
    not agree."""

    modality: str | None = None
    maker: str | None = None
    """Manufacturer (0008,0070)."""
    model: str | None = None
    """Manufacturer's Model Name (0008,1090)."""
    kernel: str | None = None
    """Convolution Kernel (0018,1210)."""
    kvp: float | None = None
    """KVP (0018,0060)."""
    thickness_mm: float | None = None
    """Slice Thickness (0018,0050)."""
    serial: str | None = field(default=None, repr=False)
    """Device Serial Number (0018,1000)."""
    detector: str | None = field(default=None, repr=False)
    """Detector ID (0018,700A), of radiographs."""


class Scanner(Record):
    """The key of a row: of CT maker, model, kernel, kVp class, thickness class and serial; of
    radiographs maker, model and detector."""

    modality: Part = UNKNOWN
    maker: Part = UNKNOWN
    model: Part = UNKNOWN
    kernel: Part = UNKNOWN
    kvp: Part = UNKNOWN
    thickness: Part = UNKNOWN
    serial: Part = UNKNOWN
    """Of a CT its Device Serial Number, of a radiograph its Detector ID: 16 hex digits of an HMAC
    with the site key."""
