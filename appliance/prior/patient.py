"""Whose exam it is, and when it was taken: what the headers of a series say -> Person, or why
nothing of it is kept. Pure.

    bytes of each image -> Said -> person, taken, contrast

Rules
1. The key is a keyed hash of issuer and Patient ID (`naming.Naming.patient`). Of an id the padding
   and the spaces around it are no part (PS3.5 6.2, LO); everything else is: `a12` is not `A12`.
   Where no issuer is named (0010,0021) the one of the settings counts.
2. An id is decoded by the character set that its image names, so that the same id typed in by a
   person gives the same key. One that cannot be decoded, or that holds control characters or a
   backslash (two values), is no id.
3. An id that many share is no id: empty, a word that anonymisers and technicians write (DUMMIES, in
   any case), zeros alone, or one that the settings name. Nor is one of a series whose images name
   several, or of a study of which another series names another: one of them is wrong, and nobody
   knows which. To compare two people is the worst fault, so nothing is kept then.
4. Birth date and sex are hashed apart. One that is absent, empty, impossible or differs between
   images is unknown; so is the sex O, which means other things at other sites.
5. The date is that of the acquisition, else of the series, else of the study (PS3.3 C.7.6.1,
   C.7.3.1, C.7.2.1), as the scanner says it, without a zone. One before 1980 is none: it is what
   anonymisers and clocks without a battery write. Of several images the earliest counts.
6. No text that leaves here repeats an id.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

from pydicom.charset import convert_encodings, decode_bytes, encode_string

from appliance.errors import SeriesRefused
from appliance.naming import Naming
from appliance.prior.entry import Person
from appliance.series import elements
from appliance.series.elements import Elements
from appliance.series.header import MAX_HEADER_BYTES

CHARACTER_SET, PATIENT_ID, ISSUER, BIRTH_DATE, SEX = (
    0x00080005, 0x00100020, 0x00100021, 0x00100030, 0x00100040,
)  # fmt: skip
WHEN: Final = ((0x00080022, 0x00080032), (0x00080021, 0x00080031), (0x00080020, 0x00080030))
"""Date and time of acquisition, series and study, in the order in which they count."""
ACQUISITION_DATE_TIME, AGENT = 0x0008002A, 0x00180010
TAGS: Final = (
    CHARACTER_SET, PATIENT_ID, ISSUER, BIRTH_DATE, SEX, ACQUISITION_DATE_TIME, AGENT,
    *(tag for pair in WHEN for tag in pair),
)  # fmt: skip
DUMMIES: Final = frozenset(
    {
        "anon", "anonym", "anonymised", "anonymized", "anonymous", "deidentified", "demo", "dummy",
        "n/a", "na", "nil", "no id", "none", "noid", "null", "patient", "patientid", "patient id",
        "phantom", "qa", "qc", "removed", "test", "unknown", "xxx",
    }
)  # fmt: skip
"""In lower case."""
OLDEST_YEAR: Final = 1980
FIRST_BIRTH_YEAR: Final = 1901
"""19000101 is what is written where nobody knows the date."""
WITHOUT_AGENT: Final = frozenset({"no", "no contrast", "none", "non contrast", "without"})
_ZEROS = re.compile(r"[0\s._-]*")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d)([0-5]\d|60)?(\.\d*)?")

Why = Literal["id_missing", "id_unreadable", "id_dummy", "ids_differ"]


@dataclass(frozen=True, slots=True)
class NotKept:
    """Why nothing is kept of an exam."""

    code: Why
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """What one image says; None where the tag is missing or empty."""

    patient_id: str | None = field(default=None, repr=False)
    issuer: str | None = field(default=None, repr=False)
    readable: bool = True
    """Whether id and issuer could be decoded."""
    birth_date: str | None = field(default=None, repr=False)
    sex: str | None = field(default=None, repr=False)
    taken: str | None = None
    """YYYYMMDD or YYYYMMDDHHMMSS (rule 5)."""
    agent: str | None = None
    """Contrast/Bolus Agent (0018,0010)."""


def said(data: bytes) -> Said:
    """Bytes of one instance (PS3.10) -> what it says. SeriesRefused where it is no DICOM."""
    e = elements.parse(data, TAGS, pixels=False, max_bytes=MAX_HEADER_BYTES).elements
    patient_id, one = _decoded(e, PATIENT_ID)
    issuer, other = _decoded(e, ISSUER)
    return Said(
        patient_id=patient_id,
        issuer=issuer,
        readable=one and other,
        birth_date=_ascii(e, BIRTH_DATE),
        sex=_ascii(e, SEX),
        taken=_taken(e),
        agent=_decoded(e, AGENT)[0],
    )


def person(
    images: Sequence[Said],
    naming: Naming,
    *,
    beside: Collection[Said] = (),
    issuer: str = "",
    dummies: Collection[str] = (),
) -> Person | NotKept:
    """Whose exam a series is, by all of its images; beside: an image of each other series of its
    study; `issuer` and `dummies` as the settings say."""
    if not all(one.readable for one in images):
        return NotKept("id_unreadable", "The patient's id cannot be read.")
    ids = {(one.issuer or issuer.strip(" "), one.patient_id) for one in images}
    if len(ids) > 1:
        return NotKept("ids_differ", "The images of the series name different patients.")
    (whose, patient_id) = next(iter(ids), ("", None))
    if patient_id is None:
        return NotKept("id_missing", "The images name no patient's id.")
    if is_dummy(patient_id, dummies):
        return NotKept("id_dummy", "The patient's id is one that stands for nobody.")
    if any(_names_another(one, images[0]) for one in beside):
        return NotKept("ids_differ", "The series of the study name different patients.")
    return Person(
        key=naming.patient(whose, patient_id),
        birth_date=_check(naming, "birth date", {_birth_date(one.birth_date) for one in images}),
        sex=_check(naming, "sex", {_sex(one.sex) for one in images}),
    )


def _names_another(one: Said, known: Said) -> bool:
    """Whether it names another patient. One without an id or an issuer says nothing: reports of a
    dose often have none."""
    if not one.readable or one.patient_id is None:
        return False
    issuers = {one.issuer, known.issuer} - {None}
    return one.patient_id != known.patient_id or len(issuers) > 1


def key_of(naming: Naming, issuer: str, patient_id: str) -> str | None:
    """The key of an id as a person types it; None where it is none (rules 2 and 3)."""
    found, readable = _trimmed(patient_id)
    whose, known = _trimmed(issuer)
    if found is None or not (readable and known) or is_dummy(found, ()):
        return None
    return naming.patient(whose or "", found)


def is_dummy(patient_id: str, dummies: Collection[str]) -> bool:
    """Whether an id stands for nobody (rule 3)."""
    word = patient_id.casefold()
    named = {one.strip(" ").casefold() for one in dummies}
    return word in DUMMIES or word in named or _ZEROS.fullmatch(word) is not None


def taken(images: Sequence[Said]) -> str | None:
    """When the exam was taken (rule 5)."""
    return min((one.taken for one in images if one.taken is not None), default=None)


def contrast(images: Sequence[Said]) -> bool | None:
    """Whether contrast medium was given, as the headers say; None where they do not."""
    agents = {one.agent.casefold() for one in images if one.agent is not None}
    return bool(agents - WITHOUT_AGENT) if agents else None


def _decoded(e: Elements, tag: int) -> tuple[str | None, bool]:
    """A string in Unicode without its padding, and whether it could be read.

    What was decoded must give the same bytes again: else two ids could become one.
    """
    value = _bytes(e, tag)
    if not value.strip(b" \0"):
        return None, True
    if value.isascii() and b"\x1b" not in value:
        return _trimmed(value.decode("ascii"))
    try:
        with elements.reading("image"):
            named = e.texts(CHARACTER_SET, "Specific Character Set") or ("ISO_IR 6",)
            known = list(convert_encodings(list(named)))
            text = decode_bytes(value, known, set())
            same = encode_string(text, known) == value
    except SeriesRefused:
        return None, False
    return _trimmed(text) if same else (None, False)


def _trimmed(text: str) -> tuple[str | None, bool]:
    """Without padding and outer spaces (rule 1), and whether it may be an id (rule 2)."""
    found = text.rstrip("\0 ").lstrip(" ")
    odd = any(c in "\\\ufffd" or not c.isprintable() for c in found)
    return found or None, not odd


def _ascii(e: Elements, tag: int) -> str | None:
    return _bytes(e, tag).decode("ascii", "replace").strip(" \0") or None


def _bytes(e: Elements, tag: int) -> bytes:
    """As they stand there; none of what is missing, or a sequence."""
    element = e.raw(tag)
    value = None if element is None else element.value
    return value if isinstance(value, bytes) else b""


def _taken(e: Elements) -> str | None:
    moments = [(_ascii(e, day), _ascii(e, time)) for day, time in WHEN]
    whole = _ascii(e, ACQUISITION_DATE_TIME) or ""
    moments.insert(1, (whole[:8], re.split(r"[+-]", whole[8:])[0]))
    for day, time in moments:
        if (found := _date(day)) is not None and found.year >= OLDEST_YEAR:
            return f"{found:%Y%m%d}{_seconds(time)}"
    return None


def _seconds(time: str | None) -> str:
    """TM of PS3.5 table 6.2-1 -> HHMMSS; nothing where it is none. A leap second is the one before
    it, because no calendar here counts it."""
    read = _TIME.fullmatch((time or "").replace(":", ""))
    if read is None:
        return ""
    return f"{read[1]}{read[2]}{'59' if read[3] == '60' else read[3] or '00'}"


def _date(value: str | None) -> date | None:
    """DA of PS3.5 table 6.2-1, also as ACR-NEMA wrote it (YYYY.MM.DD)."""
    digits = (value or "").replace(".", "")
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _birth_date(value: str | None) -> str | None:
    found = _date(value)
    return None if found is None or found.year < FIRST_BIRTH_YEAR else f"{found:%Y%m%d}"


def _sex(value: str | None) -> str | None:
    return value.upper() if value is not None and value.upper() in {"F", "M"} else None


def _check(naming: Naming, what: str, values: set[str | None]) -> str | None:
    """Hashed where all images that say it say the same (rule 4)."""
    known = values - {None}
    only = known.pop() if len(known) == 1 else None
    return None if only is None else naming.of_patient(what, only)
