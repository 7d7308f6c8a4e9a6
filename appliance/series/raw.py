"""Bytes of a data set -> its raw elements, exactly as pydicom reads them, but fast. Pure.

Rules. Elements of a stated length, nearly all there are, are read here, because every slice waits
for it; sequences that nobody asks for are passed over where they are plain. Other values of
undefined length are read by pydicom. The same values are found, and the same files are refused, as
with pydicom's reader alone, broken files and its tolerance included, but for two things:

- A VR of two spaces in explicit VR has a length of 16 bits (pydicom takes 32); what it is says the
  dictionary. So has a VR of other signs that are no letters, where 32 bits would go beyond the
  data: else it is implicit VR, to which some writers change over.
- UN of undefined length holds items in Implicit VR Little Endian, in big endian too (CP-246, PS3.5
  6.2.2); pydicom looks for big endian there.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from struct import Struct
from typing import Any

from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.filereader import data_element_generator
from pydicom.valuerep import VR
from pydicom.values import convert_string

PIXEL_DATA = 0x7FE00010
LONG_VRS = set(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # PS3.5 7.1.2
Asked = tuple[Iterable[int], Iterable[int]]
"""Tags that are needed, so that a file which is cut inside one is refused by its name, and tags
that may be asked for later."""
_PIXEL_GROUP = 0x7FE00000
_ITEM_HEAD = 8
_UNDEFINED = 0xFFFFFFFF
_CHARACTER_SET = 0x00080005
_ITEM_GROUP = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEPTH = 8
BLANK = "  "
"""A VR that was left out."""
_VR_NAMES = {vr.value.encode(): vr.value for vr in VR if len(vr.value) == 2}
_VR_TEXTS = frozenset(_VR_NAMES.values())
_HEADS = {
    little: (Struct(f"{order}HHI"), Struct(f"{order}HH2sH"), Struct(f"{order}I"))
    for little, order in ((True, "<"), (False, ">"))
}
"""Little endian or not -> an element's tag and length in implicit VR; tag, VR and short length in
explicit VR; a long length."""


class CutOff(Exception):
    """The data end too early; the text says where, after "the file ends"."""


def read(
    data: bytes, at: int, implicit: bool, little: bool, asked: Asked, *, pixels: bool
) -> tuple[dict[int, Any], int]:
    """The elements from `at` on, by tag, and where reading ended: at group 7FE0 without `pixels`.

    Raises CutOff where the data end inside an element, and whatever pydicom raises.
    """
    elements: dict[int, Any] = {}
    tags = frozenset((*asked[0], _CHARACTER_SET))
    kept = tags.union(asked[1])
    short, more = False, True
    while more and len(data) - at >= 8:
        tag, vr, length, begin = _head(data, at, implicit, little)
        if tag == _ITEM_END:  # the end, as pydicom sees it: what follows is not read
            more, at = False, len(data)
        elif tag >= _PIXEL_GROUP and not pixels:
            more = False
        elif length == _UNDEFINED:
            found, at, more, cut = _undefined(data, at, implicit, little, asked=tag in kept)
            short |= cut
            elements.update((tag, element) for element in found if tag in kept)
        else:
            at = begin + length
            if tag in kept:
                value = memoryview(data)[begin:at] if tag == PIXEL_DATA else data[begin:at]
                known = None if vr == BLANK else vr
                elements[tag] = RawDataElement(tag, known, length, value, begin, implicit, little)
                if tag == _CHARACTER_SET:  # as pydicom, which takes no unknown one
                    convert_encodings(convert_string(value, little))
                if tag == PIXEL_DATA:
                    at = begin + len(value)  # that some are missing is for `decode` to say
                elif len(value) < length and tag in tags:
                    shown = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
                    raise CutOff(f"inside element {shown}")
    short |= more and 0 < len(data) - at < 8
    if short and PIXEL_DATA not in elements:
        raise CutOff("inside an element")
    if at > len(data):
        raise CutOff(f"{at - len(data)} bytes too early")
    return elements, at


def _head(data: bytes, at: int, implicit: bool, little: bool) -> tuple[int, str | None, int, int]:
    """Tag, VR (None in implicit VR, BLANK), length and begin of the value of the element at `at`.

    An unknown VR has a short length (pydicom does the same). struct.error where the data end too
    early.
    """
    plain, explicit, long = _HEADS[little]
    if not implicit:
        group, element, code, length = explicit.unpack_from(data, at)
        if code in LONG_VRS:
            length = long.unpack_from(data, at + 8)[0]
            return group << 16 | element, _VR_NAMES[code], length, at + 12
        if code in _VR_NAMES or b"AA" <= code <= b"ZZ":
            vr = _VR_NAMES.get(code) or code.decode("latin-1")
            return group << 16 | element, vr, length, at + 8
        whole = plain.unpack_from(data, at)[2]
        beyond = whole != _UNDEFINED and whole > len(data) - at - 8 >= length
        if group != _ITEM_GROUP and (code == b"  " or beyond):
            return group << 16 | element, BLANK, length, at + 8
    group, element, length = plain.unpack_from(data, at)
    return group << 16 | element, None, length, at + 8


def _past(data: bytes, at: int, *, implicit: bool, little: bool, depth: int = 0) -> int | None:
    """Where a sequence of undefined length ends whose first item is at `at`; None where anything in
    it is unusual: that is for pydicom to judge."""
    if depth == _DEPTH:
        return None
    while len(data) - at >= 8:
        group, element, length = _HEADS[little][0].unpack_from(data, at)
        tag, at = group << 16 | element, at + 8
        if tag == _SEQUENCE_END:
            return at
        end = len(data) if length == _UNDEFINED else at + length
        if tag != _ITEM or end > len(data):
            return None
        while at < end:
            if end - at < 12:
                return None
            tag, vr, size, begin = _head(data, at, implicit, little)
            if tag == _ITEM_END:
                at = begin
                break
            if tag == _CHARACTER_SET or not (implicit or vr in _VR_TEXTS or vr == BLANK):
                return None
            inner = begin + size if size != _UNDEFINED else None
            if inner is None and (implicit or vr == "SQ"):
                inner = _past(data, begin, implicit=implicit, little=little, depth=depth + 1)
            elif inner is None and vr == "UN":
                inner = _past(data, begin, implicit=True, little=True, depth=depth + 1)
            if inner is None or inner > end:
                return None
            at = inner
        if (at == end) == (length == _UNDEFINED):
            return None
    return None


def _undefined(
    data: bytes, at: int, implicit: bool, little: bool, *, asked: bool
) -> tuple[list[Any], int, bool, bool]:
    """The element of undefined length at `at` (none where it is broken off), where it ends, whether
    another one follows, and whether a read got some bytes, but fewer than it asked for. Plain
    sequences that are not asked for and plain UN here, the rest by pydicom."""
    tag, vr, _, begin = _head(data, at, implicit, little)
    if vr == "UN" and (end := _past(data, begin, implicit=True, little=True)):
        value = data[begin : end - _ITEM_HEAD]
        return [RawDataElement(tag, vr, len(value), value, begin, True, True)], end, True, False
    if vr == "SQ" and not asked and (end := _past(data, begin, implicit=False, little=little)):
        return [], end, True, False
    stream = _Stream(data)
    stream.seek(at)
    heads = 0

    def at_next(tag: int, vr: str | None, length: int) -> bool:
        nonlocal heads
        heads += 1
        return heads > 1

    found = list(data_element_generator(stream, implicit, little, stop_when=at_next))
    return found, stream.tell(), heads > 1, stream.short


class _Stream(BytesIO):
    """A data set that knows whether a read got some bytes, but fewer than it asked for."""

    short = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.short |= size is not None and 0 < len(data) < size
        return data
