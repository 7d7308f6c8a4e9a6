"""UIDs for files from disk that have none, as anonymised research sets often do. Pure.

Rules.
1. What is a UID stays. SOP class, SOP instance, study and series UID (PS3.3 C.12.1, C.7.2.1,
   C.7.3.1) that are missing, empty or no UIDs are made; so is a frame of reference UID that is no
   UID.
2. They are made of the bytes of the file and of its folder: a study and a series of the folder, of
   what is left of their UIDs, of Modality and Series Number, and of the first file of these; an
   instance of its series and bytes. The same files give the same UIDs, as 2.25.N (PS3.5 B.2).
3. The SOP class is that of the file meta group; else CT Image for Modality CT; else there is none
   to make, and the file is refused as it is.
4. A deflated data set is left as it is.

Over DICOM nothing is made: a sender that has no UIDs breaks the protocol, and is told so.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appliance.dicom.syntaxes import DEFLATED_LE
from appliance.errors import SeriesRefused
from appliance.series import raw
from appliance.series.elements import Elements, encoding, file_meta, is_uid, reading

SOP_CLASS, SOP, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
FRAME, MODALITY, SERIES_NUMBER = 0x00200052, 0x00080060, 0x00200011
_TAGS = (SOP_CLASS, SOP, STUDY, SERIES, FRAME, MODALITY, SERIES_NUMBER)
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_LONG_HEAD, _HEAD = 12, 8


@dataclass(frozen=True)
class Parent:
    """Where an instance belongs."""

    study: str
    series: str


@dataclass(frozen=True)
class Wanting:
    """A file that lacks UIDs."""

    sop_class: str
    sop: str | None
    study: str | None
    series: str | None
    bad_frame: bool
    kind: tuple[str | None, str | None]
    """Modality and Series Number, by which series of one folder are told apart."""
    digest: str
    """SHA-256 of the file, hex."""


def wanting(data: bytes) -> Wanting | None:
    """What a file lacks; None where it lacks nothing, or where rule 3 or 4 says so."""
    try:
        found = _read(data)
    except SeriesRefused:
        return None
    if found.syntax == DEFLATED_LE:
        return None
    said = {tag: _text(found.elements, tag) for tag in _TAGS}
    uids = {tag: v if v and is_uid(v) else None for tag, v in said.items()}
    bad_frame = said[FRAME] is not None and uids[FRAME] is None
    if all(uids[tag] for tag in (SOP_CLASS, SOP, STUDY, SERIES)) and not bad_frame:
        return None
    sop_class = uids[SOP_CLASS] or found.meta_class
    sop_class = sop_class or (_CT_IMAGE if said[MODALITY] == "CT" else None)
    if sop_class is None:
        return None
    return Wanting(
        sop_class,
        uids[SOP],
        uids[STUDY],
        uids[SERIES],
        bad_frame,
        (said[MODALITY], said[SERIES_NUMBER]),
        hashlib.sha256(data).hexdigest(),
    )


def parent(first: Wanting, folder: str) -> Parent:
    """The study and series of the files of `folder` that lack the same as the first of them."""
    of = (folder, *first.kind, first.study or "", first.series or "", first.digest)
    return Parent(
        first.study or _uid("study", *of),
        first.series or _uid("series", *of),
    )


def with_uids(data: bytes, of: Parent) -> bytes:
    """The file with what it lacks; unchanged where it lacks nothing."""
    lacks = wanting(data)
    if lacks is None:
        return data
    found = _read(data)
    wanted = {
        SOP_CLASS: lacks.sop_class,
        SOP: lacks.sop or _uid("instance", of.series, lacks.digest),
        STUDY: of.study,
        SERIES: of.series,
    }
    if lacks.bad_frame:
        wanted[FRAME] = _uid("frame", of.series)
    pieces = sorted(_replaced(found, wanted), reverse=True)
    for begin, end, element in pieces:
        data = data[:begin] + element + data[end:]
    return data


@dataclass(frozen=True)
class _Found:
    elements: Elements
    syntax: str | None
    meta_class: str | None
    implicit: bool
    little: bool
    end: int
    """Where the pixels begin, or the data end."""


def _read(data: bytes) -> _Found:
    where = "image"
    with reading(where):
        meta = file_meta(data, where)
        if meta.syntax == DEFLATED_LE:
            return _Found(Elements({}), meta.syntax, meta.sop_class, False, True, len(data))
        little, implicit = encoding(data, meta.end, meta.syntax, where)
        known, end = raw.read(data, meta.end, implicit, little, ((), _TAGS), pixels=False)
        return _Found(Elements(known), meta.syntax, meta.sop_class, implicit, little, end)


def _text(e: Elements, tag: int) -> str | None:
    try:
        return e.text(tag, "")
    except SeriesRefused:
        return ""


def _replaced(found: _Found, wanted: dict[int, str]) -> Iterator[tuple[int, int, bytes]]:
    """(begin, end, element): what is written instead of which bytes."""
    more = b""
    for tag, uid in wanted.items():
        element: Any = found.elements.raw(tag)
        written = _element(tag, uid, found)
        if element is None:
            more += written
        else:
            long = (element.VR or "").encode() in raw.LONG_VRS
            begin = element.value_tell - (_LONG_HEAD if long else _HEAD)
            yield begin, element.value_tell + element.length, written
    yield found.end, found.end, more


def _element(tag: int, uid: str, found: _Found) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    order = "<" if found.little else ">"
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if found.implicit:
        return head + struct.pack(f"{order}I", len(value)) + value
    return head + b"UI" + struct.pack(f"{order}H", len(value)) + value


def _uid(*of: str | None) -> str:
    digest = hashlib.sha256("\0".join(part or "" for part in of).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
