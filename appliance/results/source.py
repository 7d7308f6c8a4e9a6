"""What composing a DICOM result needs of the series that it is about. Pure.

Rules
1. A `Source` has one image's header, mended, and the place of every image: those that were analysed
   and those of the series that were set aside. Nothing here holds pixels.
2. Places are DICOM patient millimetres (LPS, PS3.3 C.7.6.2.1.1). A pixel is (column, row) from the
   corner of the first pixel, so that the centre of the first pixel is (0.5, 0.5): so the standard
   counts in spatial coordinates (PS3.3 C.18.6.1.1), and nowhere else.
3. The header of a scanner may be wrong in ways that a result must not repeat (`mended`):
   - what the patient and study modules must have and is missing becomes empty (PS3.5 7.4.3);
   - a value that its representation does not allow (PS3.5 6.2) is cut where it is a text that is
     too long, else it becomes empty where the module must have it, and is left out elsewhere;
   - a control character becomes a space; of markup nothing is changed, because it is only text;
   - text is decoded by the character set that the image names. One that is not defined is read as
     UTF-8, and each byte that is none becomes U+FFFD: a wrong letter would be another name;
   - a character set that a composed object cannot have becomes ISO_IR 192 (PS3.3 C.12.1.1.2);
   - a byte 5C in a value that occurs once is no separator, but the half of a letter: GB18030 and
     GBK have such letters (PS3.5 6.1.2.5.3);
   - a missing or impossible Frame of Reference UID is said by None, never by a made one.
4. Private elements, pixels, overlays and curves are left out.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom import charset, datadict
from pydicom.config import IGNORE, RAISE
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName, validate_value

from appliance.records import Pair, Vector
from appliance.report import SeriesKey

F64 = NDArray[np.float64]
Orientation = tuple[float, float, float, float, float, float]

UTF8 = "ISO_IR 192"
EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber", "Manufacturer",
)  # fmt: skip
"""What a result must have and may leave empty: type 2 of the Patient, General Study and General
Equipment modules (PS3.3 C.7.1.1, C.7.2.1, C.7.5.1)."""
_LONGEST = {"LO": 64, "SH": 16, "ST": 1024, "LT": 10240, "PN": 64}
"""Characters; of a name in each of its three groups (PS3.5 6.2)."""
_TEXT = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "PN"})
_CHECKED = frozenset({"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"})
_LINES = frozenset({"ST", "LT", "UT"})
"""Texts that may hold line breaks, and a backslash."""
_ESCAPE = re.compile("\x1b[ -/]+[0-~]")
"""An escape sequence of ISO 2022, which pydicom leaves in text of ISO 2022 IR 58."""
_LAST_GROUP, _CHARACTER_SET = 0x0028, 0x00080005
_EXTENSIONS = tuple(
    f"ISO 2022 IR {n}" for n in (6, 13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166)
)
_KANJI_HANGUL = ("ISO 2022 IR 87", "ISO 2022 IR 149", "ISO 2022 IR 159")
_ALONE = frozenset(
    {f"ISO_IR {n}" for n in (13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 192)}
    | {"GB18030", "GBK"}
)


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of the series. What is not said, or is no place, is None."""

    sop_class_uid: str
    sop_instance_uid: str
    instance_number: int | None
    position_lps_mm: Vector | None
    """Centre of the first pixel (0020,0032)."""
    orientation: Orientation | None
    """Unit directions of a row and of a column (0020,0037), perpendicular to each other."""
    spacing_mm: Pair | None
    """Between rows, between columns (0028,0030)."""
    rows: int
    columns: int
    frame: int | None = None
    """Frame number, from 1, where each frame has its functional groups (PS3.3 C.7.6.6); None for
    an instance as a whole."""
    analysed: bool = True
    """False where the series holds the image and the analysis left it out."""

    @property
    def names(self) -> frozenset[str]:
        """How `records.Facts.images` may name it."""
        return frozenset(
            {self.sop_instance_uid, f"{self.sop_instance_uid}/{(self.frame or 1) - 1}"}
        )

    @property
    def placed(self) -> bool:
        """Whether a point of the patient has a pixel here."""
        return None not in (self.position_lps_mm, self.orientation, self.spacing_mm)

    def away_mm(self, point_lps_mm: Sequence[float]) -> float:
        """Distance of a point from the plane of this image, mm. ValueError without a place."""
        position, row, column, _ = self._place()
        return abs(float((np.asarray(point_lps_mm) - position) @ np.cross(row, column)))

    def pixel(self, points_lps_mm: F64) -> F64:
        """Points [n, 3] -> (column, row) [n, 2] of their feet on the plane (rule 2). ValueError
        without a place."""
        position, row, column, (between_rows, between_columns) = self._place()
        away = np.asarray(points_lps_mm, np.float64) - position
        return np.stack([away @ row / between_columns, away @ column / between_rows], axis=-1) + 0.5

    def shows(self, point_lps_mm: Sequence[float]) -> bool:
        """Whether the foot of a point lies on a pixel. ValueError without a place."""
        column, row = self.pixel(np.asarray([point_lps_mm]))[0]
        return bool(0 <= column <= self.columns and 0 <= row <= self.rows)

    def _place(self) -> tuple[F64, F64, F64, Pair]:
        if self.position_lps_mm is None or self.orientation is None or self.spacing_mm is None:
            raise ValueError("an image without position, orientation and spacing has no pixel")
        directions = np.asarray(self.orientation, np.float64)
        return np.asarray(self.position_lps_mm), directions[:3], directions[3:], self.spacing_mm


@dataclass(frozen=True, slots=True)
class Source:
    """A series as composing sees it."""

    template: Dataset
    """Header of one of its images, `mended`."""
    images: tuple[SourceImage, ...]
    """All of them, each frame by itself, in order of instance number, frame and UID."""

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(str(self.template.StudyInstanceUID), str(self.template.SeriesInstanceUID))

    @property
    def frame_of_reference_uid(self) -> str | None:
        found = self.template.get("FrameOfReferenceUID")
        return None if found is None else str(found)

    def nearest(self, point_lps_mm: Sequence[float]) -> SourceImage | None:
        """The analysed image whose plane is nearest to a point that it shows; of equally near
        images the first. None where no image shows the point."""
        showing = (i for i in self.images if i.analysed and i.placed and i.shows(point_lps_mm))
        return min(showing, key=lambda image: image.away_mm(point_lps_mm), default=None)


def source(headers: Iterable[Dataset], *, analysed: Iterable[str] | None = None) -> Source:
    """Headers of all images of one series, of which the first that was analysed is the template.

    analysed: names of images (`SourceImage.names`); None for all. ValueError without an image that
    was analysed.
    """
    found, template = [], None
    wanted = None if analysed is None else frozenset(analysed)
    for header in headers:
        images = _images(header, wanted)
        found += images
        if template is None and any(image.analysed for image in images):
            template = header
    if template is None:
        raise ValueError(
            "a result needs an image that was analysed: give the headers of the series"
        )
    found.sort(key=lambda i: (i.instance_number or 0, i.frame or 0, i.sop_instance_uid))
    return Source(mended(template), tuple(found))


def mended(template: Dataset) -> Dataset:
    """A header as a result can take its patient and study modules from it (rules 3 and 4)."""
    named = _named(template)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that are mended here
        made = _fitting(template, _encodings(named))
    for keyword in EMPTY:
        if keyword not in made:
            setattr(made, keyword, "")
    if made.PatientSex not in {"", "M", "F", "O"}:
        made.PatientSex = ""
    if not made.get("FrameOfReferenceUID"):
        made.pop("FrameOfReferenceUID", None)
    if not _kept(named) or (named == ("",) and not _ascii(made)):
        named = (UTF8,)
    if named != ("",):
        made.SpecificCharacterSet = list(named) if len(named) > 1 else named[0]
    return made


def in_utf8(template: Dataset) -> Dataset:
    """A mended header for an object that has words of its own beyond ASCII."""
    made = deepcopy(template)
    made.SpecificCharacterSet = UTF8
    return made


def _images(header: Dataset, wanted: frozenset[str] | None) -> list[SourceImage]:
    """The frames of an instance. Of several, each has its functional groups (C.7.6.16.2)."""
    shared = next(iter(header.get("SharedFunctionalGroupsSequence") or ()), Dataset())
    each = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    number = _numbers(header, "InstanceNumber", 1)
    found = []
    for index, own in enumerate(each or [Dataset()]):
        position = _numbers(_group("PlanePosition", own, shared, header), "ImagePositionPatient", 3)
        spacing = _numbers(_group("PixelMeasures", own, shared, header), "PixelSpacing", 2)
        turned = _group("PlaneOrientation", own, shared, header)
        image = SourceImage(
            sop_class_uid=str(header.SOPClassUID),
            sop_instance_uid=str(header.SOPInstanceUID),
            instance_number=None if number is None else int(number[0]),
            position_lps_mm=None if position is None else (position[0], position[1], position[2]),
            orientation=_unit(_numbers(turned, "ImageOrientationPatient", 6)),
            spacing_mm=None if spacing is None or min(spacing) <= 0 else (spacing[0], spacing[1]),
            rows=int(header.get("Rows") or 0),
            columns=int(header.get("Columns") or 0),
            frame=index + 1 if each else None,
        )
        used = wanted is None or bool(image.names & wanted)
        found.append(replace(image, analysed=used))
    return found


def _group(name: str, own: Dataset, shared: Dataset, header: Dataset) -> Dataset:
    """Where a frame says its place: its own group, that of all frames, or the header itself."""
    keyword = f"{name}Sequence"
    return next(iter(own.get(keyword) or shared.get(keyword) or ()), header)


def _numbers(holder: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The finite values of an attribute; None where there are not so many."""
    with suppress(ValueError, TypeError, OverflowError):
        value = holder.get(keyword)
        several = value if isinstance(value, (MultiValue, list, tuple)) else [value]
        found = tuple(float(one) for one in several)
        if len(found) == count and np.isfinite(found).all():
            return found
    return None


def _unit(orientation: tuple[float, ...] | None) -> Orientation | None:
    """Directions of length 1; None where they are none."""
    if orientation is None:
        return None
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) == 0 or abs(float(row @ column)) > 0.01 * float(lengths[0] * lengths[1]):
        return None
    x, y, z = (row / lengths[0]).tolist()
    u, v, w = (column / lengths[1]).tolist()
    return x, y, z, u, v, w


def _named(template: Dataset) -> tuple[str, ...]:
    """The character sets that an image names; ("",) for none."""
    value = template.get("SpecificCharacterSet")
    several = value if isinstance(value, (MultiValue, list, tuple)) else [value or ""]
    return tuple(str(one).strip() for one in several) or ("",)


def _encodings(named: tuple[str, ...]) -> list[str]:
    """Python's names of them; of what is not defined UTF-8 (rule 3)."""
    if all(name in charset.python_encoding for name in named):
        return [str(one) for one in charset.convert_encodings(list(named))]
    return [charset.python_encoding[UTF8]]


def _kept(named: tuple[str, ...]) -> bool:
    """Whether a composed object can have these character sets (PS3.3 C.12.1.1.2)."""
    if len(named) == 1:
        return named == ("",) or named[0] in _ALONE
    return named[0] in _EXTENSIONS and all(n in (*_EXTENSIONS, *_KANJI_HANGUL) for n in named[1:])


def _decoded(holder: Dataset, tag: BaseTag, encodings: list[str]) -> DataElement | None:
    """One element with its text as text; None for one that cannot be read."""
    raw = holder.get_item(tag)
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
        with suppress(KeyError):
            vr = datadict.dictionary_VR(tag)
            if vr in _TEXT and datadict.dictionary_VM(tag) == "1":
                return DataElement(tag, vr, _text(raw.value, vr, encodings), validation_mode=IGNORE)
    try:
        return deepcopy(holder[tag])
    except Exception:  # noqa: BLE001 - whatever pydicom stumbles over is left out
        return None


def _text(value: bytes, vr: str, encodings: list[str]) -> str:
    if vr == "PN":
        text = str(PersonName(value.rstrip(b" \0"), encodings))
    else:
        text = str(charset.decode_bytes(value, encodings, charset.TEXT_VR_DELIMS)).rstrip(" \0")
    return _ESCAPE.sub("", text)


def _fit(element: DataElement, encodings: list[str]) -> DataElement | None:
    """An element that holds what its representation allows; None where nothing is left of it."""
    if element.VR == "SQ":
        items = [_fitting(item, encodings) for item in element.value or ()]
        return DataElement(element.tag, "SQ", items)
    several = isinstance(element.value, (MultiValue, list, tuple))
    values = list(element.value) if several else [element.value]
    if element.VR in _TEXT:
        values = [_cut("" if one is None else str(one), element.VR) for one in values]
    elif element.VR in _CHECKED:
        values = [one for one in values if _valid(element.VR, one)]
    if not values:
        return None
    value = values if several else values[0]
    return DataElement(element.tag, element.VR, value, validation_mode=IGNORE)


def _fitting(holder: Dataset, encodings: list[str]) -> Dataset:
    """Rules 3 and 4 for each element of a header or of an item of a sequence. An item may name a
    character set of its own (PS3.5 7.5.3), and is then in that of the header."""
    if "SpecificCharacterSet" in holder:
        encodings = _encodings(_named(holder))
    made = Dataset()
    for tag in list(holder.keys()):
        if tag.group <= _LAST_GROUP and not tag.is_private and tag != _CHARACTER_SET:
            element = _decoded(holder, tag, encodings)
            if element is not None and (fit := _fit(element, encodings)) is not None:
                made.add(fit)
    return made


def _valid(vr: str, value: object) -> bool:
    """Whether a value is what its representation allows; a date is a day that there is."""
    if value is None or value == "":
        return True
    text = str(getattr(value, "original_string", value))
    try:
        validate_value(vr, text, RAISE)
        if vr == "DA":
            datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return True


def _cut(text: str, vr: str) -> str:
    """A text of the length and the characters of its representation (PS3.5 6.2)."""
    allowed = "\t\n\f\r" if vr in _LINES else ""
    text = "".join(c if c in allowed or unicodedata.category(c) != "Cc" else " " for c in text)
    if vr not in _LINES:
        text = text.replace("\\", " ")
    longest = _LONGEST.get(vr)
    if vr == "PN":
        groups = ("^".join(group.split("^")[:5]) for group in text.split("=")[:3])
        return "=".join(group[:longest].rstrip() for group in groups)
    return text if longest is None else text[:longest]


def _ascii(made: Dataset) -> bool:
    """Whether no text, in no sequence, goes beyond the default repertoire."""
    return all(
        str(value).isascii()
        for element in made.iterall()
        if element.VR in _TEXT
        for value in (element.value if isinstance(element.value, MultiValue) else [element.value])
    )
