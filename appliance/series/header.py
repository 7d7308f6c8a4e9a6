"""What one instance says of itself -> Header. Pure; no pixel is read.

Rules. Works for every IOD that has UIDs (SR, presentation states, localizers ...), so that a series
can be set aside or refused by name. SOP class, SOP instance, study and series UID must be there
(PS3.3 C.12.1, C.7.2.1, C.7.3.1: all Type 1): MISSING_UID. Everything else may be missing.

- A value that does not parse is None, unknown, where it only names or sorts (Instance Number, age
  ...). Slice Thickness and tilt take part in refusals: `strict` (read of CT) refuses garbage there.
- `expected_images`: Number of Series Related Instances (0020,1209), else Images in Acquisition
  (0020,1002; it may count the images of sister reconstructions, then it is never reached and the
  quiet time decides), else Number of Study Related Instances (0020,1208) only where Number of
  Study Related Series (0020,1206) is 1. PS3.4 C.3.4: 1206 to 1209 are answers to a query,
  which some scanners write into images.
- Patient's Age (0010,1010) is `nnnD|W|M|Y` (PS3.5 table 6.2-1, AS), else unknown. 000Y and more
  than 120 years are what anonymisers write: impossible, hence unknown (`age_unknown`). Patient's
  Birth Date (0010,0030) decides where it and a date of the study are there and give 0 to 120 years:
  the age is then counted from it in whole years, months, weeks or days, as Patient's Age says it.
  The birth date itself goes no further.
- A patient is human where Patient Species Description (0010,2201) and Code Sequence (0010,2202) are
  missing or empty, or say so (`HUMAN`); anything else, unreadable or not, is another species.
- Enhanced multi-frame: what the functional groups say of a frame (PS3.3 C.7.6.16, C.8.15.3) goes
  before the instance's own; `header` shows frame 0, `pixels.read` gives each frame its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import date

from appliance.errors import SeriesRefused
from appliance.reasons import Code
from appliance.records import Header
from appliance.series.elements import Elements, Instance, refused

SHARED, PER_FRAME = 0x52009229, 0x52009230
DATES = (0x00080020, 0x00080021, 0x00080022, 0x00080023)
"""Of the study, the series, the acquisition and the image: the first that is a date counts."""
TAGS = (
    0x00080008, 0x00080016, 0x00080018, *DATES, 0x00080060, 0x00080070, 0x00081090, 0x00100020,
    0x00100030, 0x00101010, 0x00102201, 0x00102202, 0x00180015, 0x00180050, 0x00180060, 0x00181000,
    0x00181120, 0x00181130, 0x00181210, 0x0018700A,
    0x0020000D, 0x0020000E, 0x00200012, 0x00200013, 0x00200052, 0x00200100, 0x00201002, 0x00201206,
    0x00201208, 0x00201209, 0x00209241, 0x00280301, 0x00282110, SHARED, PER_FRAME,
)  # fmt: skip
HUMAN, HUMAN_CODES = {"homo sapiens", "human"}, {("SCT", "337915000"), ("SRT", "L-85B00")}
"""Species Description in lower case; (Coding Scheme Designator, Code Value), PS3.16 CID 7454."""
OLDEST = 120.0
"""Years; an age above is none."""
NOT_IN_DIGEST = frozenset({"patient", "table_height_mm", "model", "kvp", "serial", "detector"})
"""Facts of a header that came later than the first digests, which stay as they were."""
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
MAX_HEADER_BYTES = 64 << 20


def of_any(instance: Instance) -> Header:
    """One instance of any IOD -> Header, its first frame's; SeriesRefused if it lacks UIDs."""
    whole = of_instance(instance, strict=False)
    groups = groups_of(instance.elements)
    return of_frame(whole, groups[0], strict=False) if groups else whole


def digest(header: Header) -> tuple[str, str]:
    """SOP Instance UID and SHA-256 of a header: equal for every transfer syntax of one instance."""
    facts = replace(header, transfer_syntax_uid=None, lossy=False)
    # what no instance needs to say is left out while it says nothing: the digests of before stay
    said = ", ".join(
        f"{f.name}={getattr(facts, f.name)!r}"
        for f in fields(facts)
        if f.name not in NOT_IN_DIGEST
        if f.default is MISSING or f.default is not False or getattr(facts, f.name)
    )
    return header.sop_instance_uid, hashlib.sha256(f"Header({said})".encode()).hexdigest()


@dataclass(frozen=True)
class Groups:
    """The functional groups of one frame: its own first, then the shared (PS3.3 C.7.6.16.1)."""

    own: Elements | None
    shared: Elements | None

    def macro(self, tag: int, name: str) -> Elements | None:
        """The first item of a functional group macro's sequence."""
        for group in (self.own, self.shared):
            found = None if group is None else group.first(tag, name)
            if found is not None:
                return found
        return None


def groups_of(e: Elements) -> tuple[Groups, ...]:
    """The functional groups of each frame; () for an image without any."""
    shared = e.first(SHARED, "Shared Functional Groups Sequence")
    own = e.items(PER_FRAME, "Per-frame Functional Groups Sequence")
    if shared is not None and not own:
        return (Groups(None, shared),)
    return tuple(Groups(frame, shared) for frame in own)


def of_frame(whole: Header, groups: Groups, *, strict: bool) -> Header:
    """The header with what the functional groups say of one frame."""
    content = groups.macro(0x00209111, "Frame Content Sequence")
    kind = groups.macro(0x00189329, "CT Image Frame Type Sequence")
    measures = groups.macro(0x00289110, "Pixel Measures Sequence")
    details = groups.macro(0x00189304, "CT Acquisition Details Sequence")
    kernel = groups.macro(0x00189314, "CT Reconstruction Sequence")
    cardiac = groups.macro(0x00189118, "Cardiac Synchronization Sequence")
    of_the_frame = {
        "image_type": kind and tuple(t.upper() for t in _lenient_texts(kind, 0x00089007)),
        "kernel": kernel and _lenient_text(kernel, 0x00181210),
        "thickness_mm": measures and thickness_mm(measures, strict=strict),
        "gantry_tilt_deg": details and tilt_deg(details, strict=strict),
        "acquisition_number": content and _lenient_integer(content, 0x00209156),
        "temporal_position": content and _lenient_integer(content, 0x00209128),
        "cardiac_phase": cardiac and _lenient_number(cardiac, 0x00209241),
    }
    return replace(whole, **{k: v for k, v in of_the_frame.items() if v is not None and v != ()})  # type: ignore[arg-type]


def named(instance: Instance) -> Instance:
    """The instance with `where` naming it by its Instance Number, where it has one."""
    number = _lenient_integer(instance.elements, 0x00200013)
    if number is None:
        return instance
    return replace(instance, elements=Elements(instance.elements.known, f"image {number}"))


def of_instance(instance: Instance, *, strict: bool) -> Header:
    """Parsed instance -> Header. `strict` refuses an impossible thickness or tilt."""
    e = instance.elements
    age, age_unknown = _age(e)
    return Header(
        sop_class_uid=_needed_uid(e, 0x00080016, "SOP Class UID"),
        sop_instance_uid=_needed_uid(e, 0x00080018, "SOP Instance UID"),
        study_uid=_needed_uid(e, 0x0020000D, "Study Instance UID"),
        series_uid=_needed_uid(e, 0x0020000E, "Series Instance UID"),
        frame_of_reference_uid=e.uid(0x00200052, "Frame of Reference UID") if strict
        else _lenient_text(e, 0x00200052),
        modality=_upper(_lenient_text(e, 0x00080060)),
        image_type=tuple(t.upper() for t in _lenient_texts(e, 0x00080008)),
        body_part=_upper(_lenient_text(e, 0x00180015)),
        kernel=_lenient_text(e, 0x00181210),
        patient_age_years=age,
        thickness_mm=thickness_mm(e, strict=strict),
        instance_number=_lenient_integer(e, 0x00200013),
        acquisition_number=_lenient_integer(e, 0x00200012),
        temporal_position=_lenient_integer(e, 0x00200100),
        cardiac_phase=_lenient_number(e, 0x00209241),
        gantry_tilt_deg=tilt_deg(e, strict=strict),
        expected_images=_expected(e),
        manufacturer=_lenient_text(e, 0x00080070),
        transfer_syntax_uid=instance.transfer_syntax_uid,
        age_unknown=age_unknown,
        other_species=_other_species(e),
        burned_in=_upper(_lenient_text(e, 0x00280301)) == "YES",
        lossy=_lenient_text(e, 0x00282110) == "01",
        patient=_patient(e),
        table_height_mm=_lenient_number(e, 0x00181130),
        model=_lenient_text(e, 0x00081090),
        kvp=_lenient_number(e, 0x00180060),
        serial=_lenient_text(e, 0x00181000),
        detector=_lenient_text(e, 0x0018700A),
    )  # fmt: skip


def _patient(e: Elements) -> str | None:
    """Of the bytes, because `text` makes one sign of all that are not ASCII."""
    element = e.raw(0x00100020)
    value = None if element is None else element.value
    said = value.strip(b" \0") if isinstance(value, bytes) else b""
    return hashlib.sha256(said).hexdigest() if said else None


def _age(e: Elements) -> tuple[float | None, bool]:
    return age(
        _lenient_text(e, 0x00101010),
        _lenient_text(e, 0x00100030),
        [day for day in (_lenient_text(e, tag) for tag in DATES) if day is not None],
    )


def age(said: str | None, born: str | None, dates: Sequence[str]) -> tuple[float | None, bool]:
    """Patient's Age, Birth Date and dates of the study -> years, and whether the age is said, but
    impossible, so that it is unknown."""
    found = _AGE.fullmatch((said or "").upper())
    years = age_years(said)
    impossible = years is not None and (years > OLDEST or (said or "").upper() == "000Y")
    unit = found[2] if found and not impossible else "Y"
    counted = _counted(born, dates, unit)
    if counted is not None:
        return counted, False
    return (None, True) if impossible else (years, False)


def _counted(born: str | None, dates: Sequence[str], unit: str) -> float | None:
    """The age by the birth date, in whole units as years; months where years are none yet. None
    where a date is missing or the age is none."""
    first = _date(born)
    last = next((day for day in map(_date, dates) if day is not None), None)
    if first is None or last is None or not first <= last:
        return None
    months = 12 * (last.year - first.year) + last.month - first.month - (last.day < first.day)
    if months > 12 * OLDEST:
        return None
    if unit in "DW":
        days = int(_DAYS[unit])
        return (last - first).days // days * days / 365.25
    return float(months // 12) if unit == "Y" and months >= 12 else months / 12


def _date(value: str | None) -> date | None:
    """DA of PS3.5 table 6.2-1: YYYYMMDD."""
    if value is None or len(value) != 8 or not (value.isascii() and value.isdigit()):
        return None
    try:
        return date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        return None


def _other_species(e: Elements) -> bool:
    try:
        words = {" ".join(t.casefold().split()) for t in e.texts(0x00102201, "")} - {""}
        codes = {
            (_upper(_lenient_text(code, 0x00080102)), _upper(_lenient_text(code, 0x00080100)))
            for code in e.items(0x00102202, "")
        }
    except SeriesRefused:
        return True
    return not (words <= HUMAN and codes <= HUMAN_CODES)


def age_years(value: str | None) -> float | None:
    """`063Y`, `018M`, `003W`, `010D` -> years, possible or not; None where it is anything else."""
    found = _AGE.fullmatch((value or "").upper())
    if found is None:
        return None
    return int(found[1]) * _DAYS[found[2]] / 365.25


def thickness_mm(e: Elements, *, strict: bool) -> float | None:
    """Slice Thickness (0018,0050); 0 is what exports write for unknown."""
    value = _number(e, 0x00180050, "Slice Thickness", strict=strict)
    if value is not None and value < 0:
        if strict:
            raise e.invalid(0x00180050, "Slice Thickness", f"is {value:g} mm")
        return None
    return value or None


def tilt_deg(e: Elements, *, strict: bool) -> float | None:
    """Gantry/Detector Tilt (0018,1120)."""
    return _number(e, 0x00181120, "Gantry/Detector Tilt", strict=strict)


def _needed_uid(e: Elements, tag: int, name: str) -> str:
    value = e.uid(tag, name)
    if value is None:
        shown = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        raise refused(Code.MISSING_UID, f"{e.where}: {name} {shown} is missing or empty", e.where)
    return value


def _expected(e: Elements) -> int | None:
    tags = [0x00201209, 0x00201002]
    if _lenient_integer(e, 0x00201206) == 1:
        tags.append(0x00201208)
    counts = (_lenient_integer(e, tag) for tag in tags)
    return next((n for n in counts if n is not None and n > 0), None)


def _upper(value: str | None) -> str | None:
    return None if value is None else value.upper()


def _number(e: Elements, tag: int, name: str, *, strict: bool) -> float | None:
    return e.number(tag, name) if strict else _lenient_number(e, tag)


def _lenient_number(e: Elements, tag: int) -> float | None:
    try:
        return e.number(tag, "")
    except SeriesRefused:
        return None


def _lenient_integer(e: Elements, tag: int) -> int | None:
    try:
        return e.integer(tag, "")
    except SeriesRefused:
        return None


def _lenient_texts(e: Elements, tag: int) -> tuple[str, ...]:
    try:
        return e.texts(tag, "")
    except SeriesRefused:
        return ()


def _lenient_text(e: Elements, tag: int) -> str | None:
    return next((t for t in _lenient_texts(e, tag) if t), None)
