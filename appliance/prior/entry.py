"""The entry: all that is kept of one exam of the chest, for comparing a later one with it.

    slices, masks, scores, report -> Entry (made.py) -> bytes (packed.py) -> priors/ (store/priors)

Rules
- Nothing else goes into a comparison than two entries and the bundles (lines/compare.py): so one
  that is made late, replayed or read from disk is equal.
- The patient's id is written nowhere: the entry has its keyed hash, and hashes of birth date and
  sex apart. Whoever has the disk and the site key can test an id: it is a pseudonym.
- Array axes are [z, y, x]; grids are aligned to the axes of the patient (LPS), as canonical volumes
  are (appliance.records).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from appliance.records import Grid, Pair
from appliance.report import Digest, Millimetres3, Record, Report, Scored

VERSION: Final = 1
"""Of the format. One that is not known is no entry."""
IMAGE_MM: Final = 2.0
AROUND_MM: Final = 16.0
"""What is kept of the image: the box of the lungs and so much around it."""
LOW_HU: Final = -1000.0
HIGH_HU: Final = 400.0
"""HU that 0 and 255 of the image stand for."""
CUBE: Final = 48
CUBE_MM: Final = 0.8
MOST_CUBES: Final = 24


class Person(Record):
    """Whose exam it is, as far as that may be kept: keyed hashes (naming.Naming)."""

    key: str
    """Of issuer and Patient ID."""
    birth_date: str | None = None
    sex: str | None = None
    """None: absent, empty or unusable, which is unknown."""


class ImageNames(Record):
    """Where the exam lies in an archive, for the structured report alone: never published."""

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str | None = None
    sop_class_uid: str
    key_images: tuple[tuple[int, str], ...] = ()
    """Finding -> SOP Instance UID of its key image."""


class Facts(Record):
    """What an entry says besides its arrays and its report."""

    version: int = VERSION
    person: Person
    names: ImageNames
    pseudonym: str
    """Of its study."""
    taken: Annotated[str, Field(pattern=r"^[0-9]{8}([0-9]{6})?$")] | None = None
    """Acquisition, else Series, else Study Date with its time: YYYYMMDD or YYYYMMDDHHMMSS, as the
    scanner says it, without a zone. None: absent, or before 1980."""
    spacing_mm: Millimetres3
    """Between slices, rows, columns."""
    thickness_mm: float | None = None
    kernel: str | None = None
    maker: str | None = None
    contrast: bool | None = None
    """As its header says; None: unknown."""
    bundle_digest: Digest
    pixel_digest: Digest
    """Of the pixels alone, slice by slice along z: equal for one scan under other UIDs."""
    spread_mm: Pair | None = None
    """Point spread, SD in mm of a Gaussian: along z, in plane; None where no edge could be
    measured."""
    diseased: bool = False
    """The report says `diffuse_disease`."""
    list_full: bool = False
    """The network of candidates gave as many as it may, and the last of them still matters: so what
    is in no list is not absent."""
    candidates: tuple[Scored, ...] = ()
    """All that was scored, the highest first."""
    threshold: float


@dataclass(frozen=True, slots=True)
class Image:
    """The lungs and AROUND_MM of what is about them, at IMAGE_MM."""

    values: NDArray[np.uint8]
    """[z, y, x]: LOW_HU + value * (HIGH_HU - LOW_HU) / 255 is HU; out of range it is cut."""
    lungs: NDArray[np.bool_]
    """[z, y, x] of the same grid: closed lungs, as the network of lungs draws them."""
    covered: NDArray[np.bool_]
    """[z, y, x]: where the scanner's images have pixels (the field of view, without padding)."""
    grid: Grid


@dataclass(frozen=True, slots=True)
class Cube:
    """What a finding or a strong candidate was measured in: HU around its centre."""

    center_lps_mm: Millimetres3
    score: float
    finding: int | None
    """Of the report; None: a candidate below the threshold."""
    diameter_mm: float | None
    """As it was reported, or as the detector estimated it."""
    hu: NDArray[np.int16]
    """[CUBE, CUBE, CUBE] at CUBE_MM; -1000 outside of the images."""
    grid: Grid
    body: NDArray[np.bool_] | None
    """[z, y, x] of the same grid: the body that was measured; None: none was."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One exam, as it is kept."""

    facts: Facts
    report: Report
    image: Image
    cubes: tuple[Cube, ...]
    digest: str
    """SHA-256 of its packed bytes: its name."""
