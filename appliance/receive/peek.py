"""A look into a Part 10 file: the UIDs that place it, and whether it is whole. Pure.

Rules
- Only headers are read, pixel data is skipped: well under a millisecond for a CT slice.
- No length is trusted: every element, item and fragment must lie within the data (PS3.5 7.1, 7.5,
  A.4). A data set that ends inside an element is `truncated`.
- What real scanners write is tolerated: wrong order of elements, trailing zeros, UN of undefined
  length (PS3.5 6.2.2: its content is implicit little endian), a VR that is left out in explicit VR
  (two spaces: a length of 16 bits follows; other signs: 32 bits as in implicit VR, but 16 where
  that would go beyond the data).
- Texts of refusals name tags, never values: a value may be a name.
- Deflated data sets (PS3.5 A.5) are inflated in pieces of which only the last ones are kept, to at
  most 256 MiB, which bounds the work.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Protocol

from appliance.errors import InstanceRefused

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
CANNOT_UNDERSTAND = 0xC000  # PS3.4 B.2.3
INFLATED_MAX = 256 << 20
PIECE = 64 << 10
DEPTH_MAX = 32
_LONGEST_UID = 1024  # to be looked at; 64 are allowed (PS3.5 9.1), which is checked later

_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_WANTED = frozenset((_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES))


@dataclass(frozen=True, slots=True)
class Peeked:
    """What one instance says of itself; None where the element is missing or empty.

    The values are as sent, without padding: they are checked before they become paths.
    """

    transfer_syntax: str
    sop_class: str | None
    sop_instance: str | None
    study: str | None
    series: str | None
    pixels: bool
    """Whether there is a pixel data element at the top level."""
    dataset_at: int
    """Where the data set begins in the file."""


class Data(Protocol):
    """The bytes of a data set, read forwards."""

    def take(self, at: int, count: int) -> bytes | memoryview:
        """`count` bytes from `at`, fewer where the data end; `at` is never far behind."""

    def unpack(self, form: str, at: int) -> tuple[Any, ...]:
        """The values of a struct at `at`; struct.error where the data end before."""

    def reaches(self, end: int) -> bool:
        """Whether there are bytes up to `end`; what lies well before it may be let go."""

    def ends_before(self, end: int) -> bool:
        """Whether it is known already that there are none up to `end`."""


class _Plain:
    """Data as they are in the file."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def take(self, at: int, count: int) -> memoryview:
        return self._view[at : at + count]

    def unpack(self, form: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(form, self._view, at)

    def reaches(self, end: int) -> bool:
        return end <= len(self._view)

    def ends_before(self, end: int) -> bool:
        return not self.reaches(end)


class _Inflated:
    """Deflated data (PS3.5 A.5: a raw RFC 1951 stream), of which three pieces are held."""

    def __init__(self, view: memoryview) -> None:
        self._engine = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflated = view
        self._next = 0
        self._window = bytearray()
        self._at = 0
        """Where the window begins."""

    def take(self, at: int, count: int) -> bytes:
        self.reaches(at + count)
        return bytes(self._window[max(0, at - self._at) :][:count])

    def unpack(self, form: str, at: int) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(at, struct.calcsize(form)))

    def reaches(self, end: int) -> bool:
        while end > self._at + len(self._window):
            if self._engine.eof:
                return False
            self._inflate()
        return True

    def ends_before(self, end: int) -> bool:
        return self._engine.eof and not self.reaches(end)

    def _inflate(self) -> None:
        """One piece more; the oldest is let go."""
        fed = self._engine.unconsumed_tail
        if not fed:
            fed = bytes(self._deflated[self._next : self._next + PIECE])
            self._next += len(fed)
        try:
            piece = self._engine.decompress(fed, PIECE)
        except zlib.error as e:
            raise _refused("the deflated data set does not inflate", "malformed") from e
        if not (fed or piece or self._engine.eof):
            raise _refused("the deflated data set is cut", "truncated")
        old = max(0, len(self._window) - 2 * PIECE)
        del self._window[:old]
        self._at += old
        self._window += piece
        if self._at + len(self._window) > INFLATED_MAX:
            text = f"the data set inflates to more than {INFLATED_MAX} bytes"
            raise _refused(text, "too_large")


@dataclass(frozen=True, slots=True)
class _Syntax:
    """How elements are encoded: PS3.5 7.1.2, 7.1.3 and 7.3."""

    explicit: bool
    order: str

    def tag(self, data: Data, at: int) -> int:
        group, element = data.unpack(f"{self.order}HH", at)
        return int(group) << 16 | int(element)

    def long(self, data: Data, at: int) -> int:
        return int(data.unpack(f"{self.order}I", at)[0])

    def header(self, data: Data, at: int) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty if implicit or left out), length, start of the value of the element at
        `at`."""
        group, element, vr, length = data.unpack(f"{self.order}HH2sH", at)
        tag = group << 16 | element
        if not self.explicit or group == 0xFFFE or not (vr.isalpha() and vr.isupper()):
            whole = self.long(data, at + 4)
            beyond = whole != _UNDEFINED and data.ends_before(at + 8 + whole)
            if self.explicit and group != 0xFFFE and (vr == b"  " or beyond):
                whole = length
            return tag, b"", whole, at + 8
        if vr in _LONG_VRS:
            return tag, vr, self.long(data, at + 8), at + 12
        return tag, vr, length, at + 8


_IMPLICIT = _Syntax(False, "<")
_EXPLICIT = _Syntax(True, "<")
_BIG = _Syntax(True, ">")


def peek(data: bytes | bytearray | memoryview) -> Peeked:
    """Look into a whole Part 10 file. InstanceRefused (C000) where it is not one, or not whole."""
    view = memoryview(data)
    if len(view) < 132 or bytes(view[128:132]) != b"DICM":
        raise _refused("not a Part 10 file: no DICM prefix (PS3.10 7.1)", "not_part10")
    syntax, start = _meta(view)
    body: Data = _Plain(view)
    at = start
    if syntax == DEFLATED_LE:
        body, at = _Inflated(view[start:]), 0
    coding = {IMPLICIT_LE: _IMPLICIT, EXPLICIT_BE: _BIG}.get(syntax, _EXPLICIT)
    try:
        found, pixels = _walk(body, at, coding)
    except struct.error:
        raise _refused("the data set ends inside an element", "truncated") from None
    return Peeked(
        syntax,
        found.get(_SOP_CLASS),
        found.get(_SOP_INSTANCE),
        found.get(_STUDY),
        found.get(_SERIES),
        pixels,
        start,
    )


def _meta(view: memoryview) -> tuple[str, int]:
    """Transfer syntax and end of the File Meta Information (PS3.10 7.1: explicit VR LE)."""
    at, syntax, data = 132, "", _Plain(view)
    try:
        while data.reaches(at + 1) and _EXPLICIT.tag(data, at) >> 16 == 0x0002:
            tag, _, length, value = _EXPLICIT.header(data, at)
            if tag == 0x00020010:
                syntax = _uid(data, value, length, tag) or ""
            at = _within(data, value, length, tag)
    except struct.error:
        raise _refused("the file ends inside its meta information", "truncated") from None
    if not syntax:
        raise _refused("no transfer syntax in the meta information", "not_part10")
    return syntax, at


def _walk(data: Data, at: int, coding: _Syntax) -> tuple[dict[int, str | None], bool]:
    found: dict[int, str | None] = {}
    pixels = False
    while data.reaches(at + 1):
        if not data.reaches(at + 8) and not any(data.take(at, 8)):
            break  # padding
        tag, vr, length, value = coding.header(data, at)
        if length == _UNDEFINED:
            at = _past_items(data, value, _IMPLICIT if vr == b"UN" else coding, 0)
        else:
            if tag in _WANTED:
                found[tag] = _uid(data, value, length, tag)
            at = _within(data, value, length, tag)
        pixels = pixels or tag in _PIXELS
    return found, pixels


def _past_items(data: Data, at: int, coding: _Syntax, depth: int) -> int:
    """Past a sequence or encapsulated pixel data of undefined length (PS3.5 7.5.1, A.4)."""
    if depth > DEPTH_MAX:
        raise _refused("sequences are nested too deep", "nested_too_deep")
    while True:
        tag, length = coding.tag(data, at), coding.long(data, at + 4)
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _refused(
                f"({tag >> 16:04X},{tag & 0xFFFF:04X}) where an item belongs", "malformed"
            )
        if length == _UNDEFINED:
            at = _past_elements(data, at, coding, depth)
        else:
            at = _within(data, at, length, tag)


def _past_elements(data: Data, at: int, coding: _Syntax, depth: int) -> int:
    """Past the elements of an item of undefined length."""
    while True:
        tag, vr, length, value = coding.header(data, at)
        if tag == _ITEM_END:
            return value
        if length == _UNDEFINED:
            at = _past_items(data, value, _IMPLICIT if vr == b"UN" else coding, depth + 1)
        else:
            at = _within(data, value, length, tag)


def _within(data: Data, at: int, length: int, tag: int) -> int:
    if not data.reaches(at + length):
        shown = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        raise _refused(f"{shown} claims {length} bytes, more than there are", "truncated")
    return at + length


def _uid(data: Data, at: int, length: int, tag: int) -> str | None:
    shown = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    if length > _LONGEST_UID:
        _within(data, at, length, tag)
        raise _refused(f"{shown} is not a UID", "bad_uid")
    try:
        text = bytes(data.take(at, length)).decode("ascii")
    except UnicodeDecodeError:
        raise _refused(f"{shown} is not a UID", "bad_uid") from None
    return text.rstrip("\0 ") or None


def _refused(text: str, code: str) -> InstanceRefused:
    return InstanceRefused(
        text,
        status=CANNOT_UNDERSTAND,
        code=code,
        remedy="Send the instance again; if it fails again, its bytes are in the quarantine.",
    )
