"""Bytes of one DICOM instance -> its data elements, typed on demand. Pure.

Rules. What is not asked for is never converted: names and other free text stay bytes, so no
character set (GB18030, ISO 2022, a wrong one) can matter. The explicit VR of an element is
honoured; in Implicit VR, for UN and where none is named, it is the dictionary's (PS3.5 6.2). A
decimal string is digits, sign, point and exponent and nothing else (PS3.5 table 6.2-1), so `NaN`
and `1,5` are impossible values.
Without preamble and file meta group (PS3.10 7.1) a data set is read if it begins with group 0002
or 0008; its VR encoding is then seen in its first element. Deflated data sets are inflated up to a
limit, never further. A file that ends inside an element is unreadable. A refusal names tags and
numbers, never a text that stood in the file: it may be a patient's name in the wrong place.

Elements are read as pydicom reads them (`raw`); what it raises leaves as SeriesRefused(UNREADABLE).
"""

from __future__ import annotations

import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.values import convert_SQ

from appliance.dicom.storage import MEDIA_DIRECTORY
from appliance.dicom.syntaxes import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from appliance.errors import SeriesRefused
from appliance.reasons import Code
from appliance.report import Reason
from appliance.series import raw

PIXEL_DATA = raw.PIXEL_DATA
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}
_STRINGS = {"AE", "AS", "CS", "DA", "DS", "IS", "LO", "LT", "SH", "ST", "UC", "UI", "UR", "UT"}
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(value: str) -> bool:
    """Digits and points, at most 64 characters (PS3.5 9.1)."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def refused(code: Code, text: str, where: str | None = None) -> SeriesRefused:
    """The one refusal of this package: `text` names the figure, `where` the image."""
    return SeriesRefused(Reason(code=code, text=text, where=where))


@dataclass(frozen=True)
class Elements:
    """The data elements of an instance or of one sequence item; values are converted when asked.

    Tags are (group << 16 | element). A missing or empty element is None or (); a value that is
    not of its kind raises SeriesRefused(INVALID_VALUE) that names tag and `where`.
    """

    known: Mapping[int, Any]
    where: str = "image"

    def raw(self, tag: int) -> Any | None:
        """pydicom's RawDataElement (value: bytes) or DataElement (sequence), None if missing."""
        return self.known.get(tag)

    def invalid(self, tag: int, name: str, why: str) -> SeriesRefused:
        shown = f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
        return refused(Code.INVALID_VALUE, f"{self.where}: {shown} {why}", self.where)

    def _bytes(self, tag: int, name: str) -> tuple[bytes, str, bool]:
        """Value, VR, little endian."""
        element = self.raw(tag)
        value = None if element is None else element.value
        if not value:
            return b"", "", True
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise self.invalid(tag, name, "is a sequence")
        vr = element.VR  # type: ignore[union-attr]
        if vr is None or vr == "UN":
            vr = str(dictionary_VR(tag))
        return bytes(value), str(vr), bool(element.is_little_endian)  # type: ignore[union-attr]

    def texts(self, tag: int, name: str) -> tuple[str, ...]:
        """Values of a string, without padding; characters outside ASCII become U+FFFD."""
        value, vr, _ = self._bytes(tag, name)
        if not value:
            return ()
        if vr not in _STRINGS:
            raise self.invalid(tag, name, f"has VR {vr}, not a string")
        parts = tuple(p.strip(" \0") for p in value.decode("ascii", "replace").split("\\"))
        return parts if any(parts) else ()

    def text(self, tag: int, name: str) -> str | None:
        """The first value that is not empty."""
        return next((p for p in self.texts(tag, name) if p), None)

    def uid(self, tag: int, name: str) -> str | None:
        """A UID; one that is not made of digits and points is an invalid value."""
        value = self.text(tag, name)
        if value is not None and not is_uid(value):
            raise self.invalid(tag, name, "is not a UID")
        return value

    def numbers(self, tag: int, name: str, count: int) -> tuple[float, ...] | None:
        """`count` finite numbers, None if missing or empty."""
        value, vr, little = self._bytes(tag, name)
        if not value:
            return None
        if vr in _BINARY:
            form = ("<" if little else ">") + str(count) + _BINARY[vr]
            if struct.calcsize(form) != len(value):
                raise self.invalid(tag, name, f"has {len(value)} bytes, not {count} of {vr}")
            found = tuple(float(v) for v in struct.unpack(form, value))
        else:
            parts = self.texts(tag, name)
            if not parts:
                return None
            if len(parts) != count:
                raise self.invalid(tag, name, f"has {len(parts)} values, not {count}")
            if not all(_DECIMAL.fullmatch(p) for p in parts):
                raise self.invalid(tag, name, "is not a number")
            found = tuple(float(p) for p in parts)
        if not all(math.isfinite(v) for v in found):
            raise self.invalid(tag, name, "is not finite")
        return found

    def number(self, tag: int, name: str) -> float | None:
        found = self.numbers(tag, name, 1)
        return None if found is None else found[0]

    def integer(self, tag: int, name: str) -> int | None:
        found = self.number(tag, name)
        if found is None:
            return None
        if found != int(found):
            raise self.invalid(tag, name, f"is {found:g}, not a whole number")
        return int(found)

    def word(self, tag: int, name: str, *, signed: bool, size: int = 2) -> int | None:
        """An integer whose VR (`US or SS`) is decided by Pixel Representation, whatever it says.

        Many writers put US where SS belongs; the bits are the same (PS3.3 C.7.5.1.1.2).
        """
        value, vr, little = self._bytes(tag, name)
        if not value:
            return None
        if vr in {"UL", "SL"}:
            size = 4
        elif vr in _STRINGS:
            return self.integer(tag, name)
        if len(value) != size:
            raise self.invalid(tag, name, f"has {len(value)} bytes, not {size}")
        return int.from_bytes(value, "little" if little else "big", signed=signed)

    def binary(self, tag: int, name: str) -> tuple[bytes, bool]:
        """The bytes of a value and whether they are little endian; b"" if missing or empty."""
        value, vr, little = self._bytes(tag, name)
        if value and vr in _STRINGS:
            raise self.invalid(tag, name, f"has VR {vr}, not a binary one")
        return value, little

    def items(self, tag: int, name: str) -> tuple[Elements, ...]:
        """The items of a sequence; () if missing."""
        element = self.raw(tag)
        if element is None or not element.value:
            return ()
        if not getattr(element, "is_raw", False):
            sequence = element.value
        else:
            vr = element.VR
            if vr not in {None, "UN", "SQ"}:
                raise self.invalid(tag, name, f"has VR {vr}, not SQ")
            with reading(self.where):
                sequence = convert_SQ(
                    element.value, element.is_implicit_VR, element.is_little_endian, "iso8859"
                )
        with reading(self.where):  # what has no value yet, get_item converts
            return tuple(
                Elements({tag: item.get_item(tag) for tag in item.keys()}, self.where)  # noqa: SIM118
                for item in sequence
                if isinstance(item, Dataset)
            )

    def first(self, tag: int, name: str) -> Elements | None:
        """The first item of a sequence."""
        found = self.items(tag, name)
        return found[0] if found else None


@dataclass(frozen=True)
class Rest:
    """The part of a data set that begins with the pixels and has not been read yet."""

    data: bytes
    at: int
    implicit: bool


@dataclass(frozen=True)
class Instance:
    """One parsed instance."""

    elements: Elements
    transfer_syntax_uid: str
    little_endian: bool
    rest: Rest | None = None
    """For `completed`; None where all was read, or where a deflated data set was not inflated to
    its end."""


def failed(error: BaseException) -> bool:
    """Whether a library failed. A panic of a decoder written in Rust is no Exception, but it is an
    error here."""
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"


class reading:  # noqa: N801 - it reads as a statement
    """Around every call into pydicom: no warning gets out, every error leaves as a refusal."""

    def __init__(
        self, where: str, code: Code = Code.UNREADABLE, what: str = "no DICOM data set can be read"
    ) -> None:
        self.where, self.code, self.what = where, code, what
        self.caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.caught.__exit__(None, None, None)
        if error is not None and failed(error) and not isinstance(error, SeriesRefused):
            text = f"{self.where}: {self.what} ({type(error).__name__})"
            raise refused(self.code, text, self.where) from error


def parse(
    data: bytes, tags: Iterable[int], *, pixels: bool, max_bytes: int, also: Iterable[int] = ()
) -> Instance:
    """One Part-10 instance (PS3.10 7), or a bare data set -> the elements of `tags`, and of `also`,
    which may be asked for later: a file that ends inside one of these does not name it.

    Without `pixels` reading stops at group 7FE0 and nothing behind it is checked; `completed` goes
    on from there.
    """
    where = "image"
    if data[128:132] != b"DICM" and data[:2] not in {b"\x02\x00", b"\x08\x00", b"\x00\x08"}:
        raise refused(Code.UNREADABLE, f"{where}: {len(data)} bytes that are not DICOM", where)
    meta = file_meta(data, where)
    syntax, at = meta.syntax, meta.end
    deflated = syntax == DEFLATED_LE
    if deflated:
        data, at = _inflate(data[at:], max_bytes, where, whole=pixels), 0
    little, implicit = encoding(data, at, syntax, where)
    found, at = _read(data, at, implicit, little, (tags, also), pixels=pixels)
    if not syntax:
        syntax = EXPLICIT_BE if not little else IMPLICIT_LE if implicit else EXPLICIT_LE
    rest = None if pixels or deflated else Rest(data, at, implicit)
    return Instance(Elements(found), syntax, little, rest)


def completed(instance: Instance, rest: Rest, tags: Iterable[int]) -> Instance:
    """An instance that was parsed without its pixels, and its `rest` -> the same with them."""
    little = instance.little_endian
    found, _ = _read(rest.data, rest.at, rest.implicit, little, (tags, ()), pixels=True)
    elements = Elements({**instance.elements.known, **found}, instance.elements.where)
    return Instance(elements, instance.transfer_syntax_uid, little)


def _read(
    data: bytes,
    at: int,
    implicit: bool,
    little: bool,
    asked: raw.Asked,
    *,
    pixels: bool,
) -> tuple[dict[int, Any], int]:
    where = "image"
    with reading(where):
        try:
            return raw.read(data, at, implicit, little, asked, pixels=pixels)
        except raw.CutOff as e:
            raise refused(Code.UNREADABLE, f"{where}: the file ends {e}", where) from e


@dataclass(frozen=True)
class FileMeta:
    """What the file meta group says (PS3.10 7.1); None where it says nothing."""

    syntax: str | None
    sop_class: str | None
    end: int
    """Where the data set begins."""


def file_meta(data: bytes, where: str) -> FileMeta:
    """The file meta group, which is Explicit VR Little Endian; UNREADABLE where nothing follows."""
    at = 132 if data[128:132] == b"DICM" else 0
    found: dict[int, str] = {}
    while data[at : at + 2] == b"\x02\x00":
        if len(data) < at + 12:
            raise refused(Code.UNREADABLE, f"{where}: the file meta group is cut", where)
        element, vr, short = struct.unpack_from("<H2sH", data, at + 2)
        head, length = 8, short
        if vr in raw.LONG_VRS:
            head, length = 12, struct.unpack_from("<I", data, at + 8)[0]
        if element in {0x0002, 0x0010}:
            value = data[at + head : at + head + length]
            found[element] = value.decode("ascii", "replace").strip(" \0")
        at += head + length
    if at >= len(data):
        raise refused(Code.UNREADABLE, f"{where}: the file ends before its data set", where)
    named = found.get(0x0002, "")
    return FileMeta(found.get(0x0010) or None, named if is_uid(named) else None, at)


def is_media_directory(data: bytes) -> bool:
    """Whether a file says that it is a media directory (PS3.10 8.6), whatever it is called."""
    try:
        return file_meta(data, "file").sop_class == MEDIA_DIRECTORY
    except SeriesRefused:
        return False


def _inflate(deflated: bytes, max_bytes: int, where: str, *, whole: bool) -> bytes:
    """PS3.5 A.5: a raw RFC 1951 stream, inflated to at most `max_bytes`; all of it if `whole`."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = stream.decompress(deflated, max_bytes)
    except zlib.error as e:
        raise refused(Code.UNREADABLE, f"{where}: the deflated data set is broken", where) from e
    if not whole:
        return data
    if stream.unconsumed_tail:
        text = f"{where}: the deflated data set is larger than {max_bytes} bytes"
        raise refused(Code.TOO_LARGE, text, where)
    if not stream.eof:
        raise refused(Code.UNREADABLE, f"{where}: the deflated data set is cut", where)
    return data


def encoding(data: bytes, at: int, syntax: str | None, where: str) -> tuple[bool, bool]:
    """(little endian, implicit VR), seen in the first element; it may not contradict the syntax.

    Some writers name Implicit VR and write Explicit or the reverse: what is there counts. Two
    spaces are an explicit VR that was left out.
    """
    first = data[at : at + 6]
    little = syntax != EXPLICIT_BE if syntax else first[:2] != b"\x00\x08"
    group = int.from_bytes(first[:2], "little" if little else "big")
    if len(first) < 6 or not 0x0003 < group < 0x7FE1:
        raise refused(Code.UNREADABLE, f"{where}: no data set after the file meta group", where)
    letters = first[4:5].isalpha() and first[5:6].isalpha() and first[4:6].isupper()
    left_out = first[4:6] == b"  " and syntax not in {None, IMPLICIT_LE}
    return little, not (letters or left_out)
