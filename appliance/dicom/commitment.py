"""The data sets of storage commitment (PS3.4 J.3), written and read. Pure: bytes and records.

    N-ACTION        (0008,1195) Transaction UID, (0008,1199) what is asked about
    N-EVENT-REPORT  the same UID, (0008,1199) what is kept, (0008,1198) what is not, and why

Rules
- What is read came from the network and is hostile until it is whole: no length is trusted, no
  sequence may be nested deeper than DEPTH_MOST, at most REFERENCES_MOST objects are named. What
  does not fit is Malformed, by name and without a value of the data set.
- A UID is one (PS3.5 9.1); no object is named twice; a request names one at least.
- An event of type 1 names nothing that failed, one of type 2 does (PS3.4 J.3.3.1.2): what
  contradicts itself promises nothing.
- Elements that we do not know are passed over: a medium, an AE title to retrieve from.
- Implicit and explicit VR little endian, the only ones that are negotiated for this class.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.dicom.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from appliance.errors import Refuse
from appliance.store.commitment import Answer, Failed, Reference, Request

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class (PS3.4 J.3.5)."""
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""The one SOP Instance to which every request and every answer is addressed."""
ASK: Final = 1
"""Action Type ID of a request (PS3.4 J.3.2.1.1)."""
ALL_KEPT, SOME_FAILED = 1, 2
"""Event Type IDs (PS3.4 J.3.3.1.1)."""
SYNTAXES: Final = (EXPLICIT_LE, IMPLICIT_LE)

DATA_MOST: Final = 8 << 20
"""Bytes of a data set; a study of 20,000 images needs half of it."""
REFERENCES_MOST: Final = 20_000
DEPTH_MOST: Final = 4

_TRANSACTION, _REFERENCED, _FAILED = 0x00081195, 0x00081199, 0x00081198
_CLASS, _INSTANCE, _REASON = 0x00081150, 0x00081155, 0x00081197
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONGEST = 64  # a UID (PS3.5 9.1); what is longer is nothing that we read
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


class Malformed(Refuse):
    """This is no request or answer of storage commitment."""

    code = "commitment_malformed"
    remedy = "The peer's storage commitment breaks PS3.4 J: report it to its vendor."


@dataclass(frozen=True, slots=True)
class _Coding:
    """How elements are written (PS3.5 7.1)."""

    explicit: bool

    def element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if not self.explicit:
            return head + struct.pack("<I", len(value)) + value
        if vr in _LONG_VRS:
            return head + vr + struct.pack("<HI", 0, len(value)) + value
        return head + vr + struct.pack("<H", len(value)) + value

    def uid(self, tag: int, uid: str) -> bytes:
        value = uid.encode("ascii")
        return self.element(tag, b"UI", value + b"\0" * (len(value) % 2))

    def sequence(self, tag: int, items: Iterable[bytes]) -> bytes:
        whole = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(one)) + one for one in items)
        return self.element(tag, b"SQ", whole)

    def header(self, data: memoryview, at: int) -> tuple[int, int, int]:
        """Tag, length and start of the value of the element at `at`."""
        group, number, vr, short = struct.unpack_from("<HH2sH", data, at)
        tag = group << 16 | number
        if not self.explicit or group == 0xFFFE:
            return tag, struct.unpack_from("<I", data, at + 4)[0], at + 8
        if vr in _LONG_VRS:
            return tag, struct.unpack_from("<I", data, at + 8)[0], at + 12
        return tag, short, at + 8


def written_request(request: Request, transfer_syntax: str) -> bytes:
    """The data set of an N-ACTION (PS3.4 table J.3-1)."""
    coding = _Coding(transfer_syntax == EXPLICIT_LE)
    named = [_reference(coding, one) for one in request.references]
    return coding.uid(_TRANSACTION, request.transaction_uid) + coding.sequence(_REFERENCED, named)


def written_answer(answer: Answer, transfer_syntax: str) -> tuple[int, bytes]:
    """Event Type ID and data set of an N-EVENT-REPORT (PS3.4 table J.3-2)."""
    coding = _Coding(transfer_syntax == EXPLICIT_LE)
    data = coding.uid(_TRANSACTION, answer.transaction_uid)
    if answer.failed:
        failed = (
            _reference(coding, one.reference)
            + coding.element(_REASON, b"US", struct.pack("<H", one.reason))
            for one in answer.failed
        )
        data += coding.sequence(_FAILED, failed)
    if answer.kept:
        data += coding.sequence(_REFERENCED, [_reference(coding, one) for one in answer.kept])
    return SOME_FAILED if answer.failed else ALL_KEPT, data


def read_request(data: bytes, transfer_syntax: str) -> Request:
    """What an N-ACTION asks. Malformed."""
    found = _read(data, transfer_syntax)
    references = tuple(_named(item) for item in found.items(_REFERENCED))
    _each_once(references)
    return Request(transaction_uid=found.uid(_TRANSACTION), references=references)


def read_answer(event_type: int, data: bytes, transfer_syntax: str) -> Answer:
    """What an N-EVENT-REPORT says; event_type: its Event Type ID. Malformed."""
    found = _read(data, transfer_syntax)
    kept = tuple(_named(item) for item in found.items(_REFERENCED))
    failed = tuple(
        Failed(reference=_named(item), reason=item.number(_REASON)) for item in found.items(_FAILED)
    )
    _each_once((*kept, *(one.reference for one in failed)))
    if bool(failed) != (event_type == SOME_FAILED):
        raise Malformed("type of event and failures contradict each other")
    return Answer(transaction_uid=found.uid(_TRANSACTION), kept=kept, failed=failed)


@dataclass(slots=True)
class _Found:
    """The elements of a data set or item that matter."""

    values: dict[int, bytes]
    sequences: dict[int, list[_Found]]

    def uid(self, tag: int) -> str:
        text = self.values.get(tag, b"").decode("ascii", errors="replace").rstrip("\0 ")
        if len(text) > 64 or not _UID.fullmatch(text):
            raise Malformed(f"{_shown(tag)} is missing, or no UID")
        return text

    def number(self, tag: int) -> int:
        value = self.values.get(tag, b"")
        if len(value) != 2:
            raise Malformed(f"{_shown(tag)} is missing, or no number of 16 bits")
        return int.from_bytes(value, "little")

    def items(self, tag: int) -> list[_Found]:
        return self.sequences.get(tag, [])


def _reference(coding: _Coding, one: Reference) -> bytes:
    return coding.uid(_CLASS, one.sop_class) + coding.uid(_INSTANCE, one.sop_instance)


def _named(item: _Found) -> Reference:
    return Reference(sop_class=item.uid(_CLASS), sop_instance=item.uid(_INSTANCE))


def _each_once(references: tuple[Reference, ...]) -> None:
    if not references:
        raise Malformed("no object is named")
    if len({one.sop_instance for one in references}) < len(references):
        raise Malformed("an object is named twice")


def _read(data: bytes, transfer_syntax: str) -> _Found:
    if len(data) > DATA_MOST:
        raise Malformed(f"the data set has more than {DATA_MOST} bytes")
    coding = _Coding(transfer_syntax == EXPLICIT_LE)
    try:
        found, _ = _elements(memoryview(data), 0, len(data), coding, 0, delimited=False)
    except struct.error:
        raise Malformed("the data set ends inside an element") from None
    return found


def _elements(
    data: memoryview, at: int, end: int, coding: _Coding, depth: int, *, delimited: bool
) -> tuple[_Found, int]:
    """The elements up to `end`, or (delimited) to the end of an item of undefined length, and where
    that is."""
    found = _Found({}, {})
    while at < end:
        tag, length, value = coding.header(data, at)
        if tag == _ITEM_END and delimited:
            return found, value
        if tag in found.values or tag in found.sequences:
            raise Malformed(f"{_shown(tag)} comes twice")
        if length == _UNDEFINED:
            found.sequences[tag], at = _items(data, value, end, coding, depth + 1, delimited=True)
            continue
        at = _within(value + length, end, tag)
        if tag in (_REFERENCED, _FAILED):
            found.sequences[tag], _ = _items(data, value, at, coding, depth + 1, delimited=False)
        else:
            found.values[tag] = bytes(data[value:at]) if length <= _LONGEST else b""
    if delimited:
        raise Malformed("an item has no end")
    return found, at


def _items(
    data: memoryview, at: int, end: int, coding: _Coding, depth: int, *, delimited: bool
) -> tuple[list[_Found], int]:
    """The items of a sequence (PS3.5 7.5) up to `end`, or (delimited) to its end, and where that
    is."""
    if depth > DEPTH_MOST:
        raise Malformed("sequences are nested too deep")
    found: list[_Found] = []
    while at < end:
        tag, length, value = coding.header(data, at)
        if tag == _SEQUENCE_END and delimited:
            return found, value
        if tag != _ITEM:
            raise Malformed(f"{_shown(tag)} where an item belongs")
        if len(found) >= REFERENCES_MOST:
            raise Malformed(f"more than {REFERENCES_MOST} objects are named")
        open_end = length == _UNDEFINED
        stop = end if open_end else _within(value + length, end, tag)
        item, at = _elements(data, value, stop, coding, depth, delimited=open_end)
        found.append(item)
    if delimited:
        raise Malformed("a sequence has no end")
    return found, at


def _within(at: int, end: int, tag: int) -> int:
    if at > end:
        raise Malformed(f"{_shown(tag)} is longer than what holds it")
    return at


def _shown(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
