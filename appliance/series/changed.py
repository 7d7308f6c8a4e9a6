"""What two headers of one image say differently. Pure; no value leaves here, only names of ours.

Rules
- DECISIVE is what says whose image it is, or whether and how it is analysed: a change of it is a
  correction that must not get lost. It is refused, so that the sender knows.
- NOTED is what else a decision or a report reads, and the spelling of a name: the first header
  stays, which harms nothing, and the change is written down.
- What is missing on one side is a change too: somebody has filled it in or taken it out.
- Characters are compared as they were sent, without padding; Code Strings in upper case. What comes
  in another transfer syntax, or more images announced than before, is no change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.errors import SeriesRefused
from appliance.records import Header
from appliance.series.elements import Elements, parse
from appliance.series.header import MAX_HEADER_BYTES, TAGS, of_any

_NAME, _PATIENT_ID, _BIRTH_DATE, _AGE = 0x00100010, 0x00100020, 0x00100030, 0x00101010


@dataclass(frozen=True, slots=True)
class Changed:
    """Names of what differs, in the order of the tables."""

    decisive: tuple[str, ...]
    noted: tuple[str, ...]


_Said = tuple[Elements, Header]
DECISIVE: Final[dict[str, Callable[[_Said], object]]] = {
    "Patient ID": lambda said: _sent(said[0], _PATIENT_ID),
    "birth date": lambda said: _sent(said[0], _BIRTH_DATE),
    "age": lambda said: _sent(said[0], _AGE),
    "species": lambda said: said[1].other_species,
    "body part": lambda said: said[1].body_part,
    "image type": lambda said: said[1].image_type,
    "acquisition": lambda said: (
        said[1].acquisition_number,
        said[1].temporal_position,
        said[1].cardiac_phase,
    ),
    "burned in annotation": lambda said: said[1].burned_in,
}
NOTED: Final[dict[str, Callable[[_Said], object]]] = {
    "name": lambda said: _sent(said[0], _NAME),
    "modality": lambda said: said[1].modality,
    "frame of reference": lambda said: said[1].frame_of_reference_uid,
    "kernel": lambda said: said[1].kernel,
    "thickness": lambda said: said[1].thickness_mm,
    "instance number": lambda said: said[1].instance_number,
    "manufacturer": lambda said: said[1].manufacturer,
}


def changed(new: bytes, stored: bytes) -> Changed:
    """What differs between two files of one image: nothing where one has no header to decide by,
    because it lacks a UID. Such an image is refused when it is analysed."""
    try:
        one, other = _read(new), _read(stored)
    except SeriesRefused:
        return Changed((), ())
    return Changed(
        tuple(name for name, of in DECISIVE.items() if of(one) != of(other)),
        tuple(name for name, of in NOTED.items() if of(one) != of(other)),
    )


def _read(data: bytes) -> _Said:
    tags = (*TAGS, _NAME, _PATIENT_ID)
    instance = parse(data, tags, pixels=False, max_bytes=MAX_HEADER_BYTES)
    return instance.elements, of_any(instance)


def _sent(elements: Elements, tag: int) -> bytes:
    """A value as it was sent, whatever its character set, without padding."""
    value = getattr(elements.raw(tag), "value", None) or b""
    return bytes(value).strip(b" \0") if isinstance(value, bytes | bytearray | memoryview) else b""
