"""Who the patient of a report is: kept for the page of the room, where [web] names asks for it.

Rules
- It is done after the report was committed and its stages were woken: no report and no message
  waits for it, and what goes wrong here is logged and costs the name alone.
- Name, id and birth date are those of the first image of the series that can be read, decoded by
  the character set that the image names (`results.source`).
"""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import PersonName

from appliance.errors import ScansideError
from appliance.report import SeriesKey
from appliance.results.source import mended
from appliance.store import identities
from appliance.store.identities import Person
from appliance.store.spool import Spool

log = logging.getLogger("scanside.work")

_TAGS = ("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate")
_TRIES = 3
"""Images that are looked into: one that cannot be read is seldom alone."""


def identify(state: Path, spool: Spool, key: SeriesKey, report_id: uuid.UUID) -> None:
    """Keep who the patient is beside the report, where nobody has yet."""
    if identities.read(state, report_id) is not None:
        return
    try:
        person = person_of(list(spool.instances(key).values())[:_TRIES])
        if person is not None:
            identities.keep(state, report_id, person)
    except (ScansideError, OSError) as e:
        log.warning("the name for report %s was not kept: %s", report_id, e)


def person_of(files: Iterable[Path]) -> Person | None:
    """Of the first file that can be read; None where there is none."""
    for path in files:
        try:
            header = pydicom.dcmread(
                io.BytesIO(path.read_bytes()), stop_before_pixels=True, specific_tags=list(_TAGS)
            )
            return _person(mended(header))
        except (OSError, InvalidDicomError, ValueError, TypeError, KeyError):
            continue
    return None


def _person(header: Dataset) -> Person:
    born = str(header.PatientBirthDate or "")
    if len(born) == 8 and born.isdecimal():  # PS3.5 6.2: DA is YYYYMMDD
        born = f"{born[:4]}-{born[4:6]}-{born[6:]}"
    return Person(
        name=_name(PersonName(header.PatientName)),
        patient_id=str(header.PatientID or ""),
        birth_date=born,
    )


def _name(name: PersonName) -> str:
    """The ideographic group where there is one, and the alphabetic one behind it (PS3.5 6.2.1)."""
    groups = [_in_order(str(group)) for group in (name.ideographic, name.alphabetic) if group]
    return f"{groups[0]} ({groups[1]})" if len(groups) > 1 else "".join(groups)


def _in_order(group: str) -> str:
    """Family name, then the given names."""
    family, *given = (part.strip() for part in group.split("^")[:3])
    rest = " ".join(part for part in given if part)
    return f"{family}, {rest}" if family and rest else family or rest
