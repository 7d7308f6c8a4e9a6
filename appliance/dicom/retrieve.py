"""Associations on which we look for objects and have them sent (PS3.4 C, study root).

    find        C-FIND-RQ, then an answer each with a data set while it is pending (PS3.7 9.1.2)
    move        C-MOVE-RQ with the AE title to which the peer then stores (PS3.7 9.1.4)

Rules
- What is read came from the network: values are taken as bytes, no length is trusted, and at most
  `most` answers are taken.
- A peer may say nothing at all while it moves (PS3.4 C.4.2.3.1), so that is waited for until the
  caller's `end`. So are the answers of C-FIND: to look is slow in a large archive.
- While it waits it calls `tick` every TICK_S, so that the process can say that it lives.
"""

from __future__ import annotations

import io
import select
import ssl
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from appliance.dicom import pdu
from appliance.dicom.part10 import EXPLICIT, IMPLICIT
from appliance.dicom.requestor import Requestor
from appliance.dicom.statuses import NO_CONTEXT

FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND (PS3.4 C.4.1.3.2)."""
MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
CLASSES: Final = (FIND, MOVE)
NO_DESTINATION: Final = 0xA801
"""The peer does not know the AE title to which it is to store (PS3.4 table C.4-2)."""
PENDING: Final = frozenset({0xFF00, 0xFF01})
TICK_S: Final = 5.0
DATA_MOST: Final = 1 << 16
"""Bytes of one answer: a few keys."""
CHARACTER_SET: Final = 0x00080005
UNICODE: Final = "ISO_IR 192"

Keys = Mapping[str, str]
"""Keyword -> value; an empty one is asked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a C-FIND."""

    status: int
    answers: tuple[Dataset, ...]
    """Read with `text` alone: their values were never looked at."""
    cut: bool = False
    """There were more than the most that were to be taken; the association is over."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The end of a C-MOVE, with how many objects the peer says it stored, and did not."""

    status: int
    completed: int
    failed: int


class Retrieving(Requestor):
    """We ask an archive what it has, and have it sent."""

    tick: Callable[[], None] = staticmethod(lambda: None)

    def find(self, keys: Keys, *, end: float, most: int) -> Found:
        """What matches, until the tick `end`. PeerAway."""
        found = self._context(FIND)
        if found is None:
            return Found(NO_CONTEXT, ())
        context, syntax = found
        command: dict[int, int | str] = {
            pdu.SOP_CLASS: FIND,
            pdu.FIELD: pdu.C_FIND_RQ,
            pdu.PRIORITY: pdu.MEDIUM,
            pdu.DATA_SET_TYPE: pdu.DATA_SET,
        }
        self._ask(context, command, written(keys, syntax))
        answers: list[Dataset] = []
        while True:
            _, said, data = self._message_of(end, DATA_MOST)
            status = self._status(said, pdu.C_FIND_RQ)
            if status not in PENDING:
                return Found(status, tuple(answers))
            if len(answers) == most:
                self.abort()
                return Found(status, tuple(answers), cut=True)
            try:
                answers.append(read(data, syntax))
            except ValueError as e:
                raise self._odd(str(e)) from e

    def move(self, keys: Keys, to: str, *, end: float) -> Moved:
        """Have it stored to the AE title `to`, until the tick `end`. PeerAway: part of it may come
        all the same."""
        found = self._context(MOVE)
        if found is None:
            return Moved(NO_CONTEXT, 0, 0)
        context, syntax = found
        command: dict[int, int | str] = {
            pdu.SOP_CLASS: MOVE,
            pdu.FIELD: pdu.C_MOVE_RQ,
            pdu.PRIORITY: pdu.MEDIUM,
            pdu.DATA_SET_TYPE: pdu.DATA_SET,
            pdu.MOVE_DESTINATION: to,
        }
        self._ask(context, command, written(keys, syntax))
        while True:
            _, said, _ = self._message_of(end, DATA_MOST)
            status = self._status(said, pdu.C_MOVE_RQ)
            if status not in PENDING:
                completed, failed = (int(said.get(key, 0)) for key in (pdu.COMPLETED, pdu.FAILED))
                return Moved(status, completed, failed)

    def accepts(self, sop_class: str) -> bool:
        """Whether the peer has accepted one of CLASSES."""
        return self._context(sop_class) is not None

    def _context(self, sop_class: str) -> tuple[int, str] | None:
        """The presentation context of a class, and its transfer syntax."""
        for syntax in (EXPLICIT, IMPLICIT):
            if (sop_class, syntax) in self._contexts:
                return self._contexts[sop_class, syntax], syntax
        return None

    def _pdu(self, end: float) -> tuple[int, bytes]:
        while (left := end - time.monotonic()) > 0 and not self._readable(min(left, TICK_S)):
            self.tick()
        return super()._pdu(end)

    def _readable(self, within_s: float) -> bool:
        held = isinstance(self._connection, ssl.SSLSocket) and self._connection.pending()
        if held or self._connection.fileno() < 0:
            return True
        return bool(select.select([self._connection], [], [], within_s)[0])


def written(keys: Keys, transfer_syntax: str) -> bytes:
    """The identifier of a request (PS3.4 C.4.1.1.3); in UTF-8 where a value is not ASCII."""
    asked = Dataset()
    if not all(value.isascii() for value in keys.values()):
        asked.SpecificCharacterSet = UNICODE
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, transfer_syntax == IMPLICIT
    write_dataset(buffer, asked)
    return bytes(buffer.getvalue())


def read(data: bytes, transfer_syntax: str) -> Dataset:
    """An answer, its values not looked at. ValueError where it is no data set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer may write what it likes
        try:
            return read_dataset(
                io.BytesIO(data), transfer_syntax == IMPLICIT, is_little_endian=True
            )
        except Exception as e:  # pydicom says in many ways that bytes are none
            raise ValueError("answers with what is no data set") from e


def text(answer: Dataset, tag: int) -> str:
    """A value of an answer in Unicode, without the spaces around it; empty where there is none, or
    where its bytes are no text of the character set that the answer names."""
    value = _bytes(answer, tag)
    if not value.isascii() or b"\x1b" in value:
        named = _bytes(answer, CHARACTER_SET).decode("ascii", "replace").strip("\0 ")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # also what it could only guess
            try:
                known = convert_encodings(named.split("\\") if named else ["ISO_IR 6"])
                return str(decode_bytes(value, known, set())).strip("\0 ")
            except (LookupError, UnicodeError, ValueError, UserWarning):
                return ""
    return value.decode("ascii").strip("\0 ")


def _bytes(answer: Dataset, tag: int) -> bytes:
    element = answer.get_item(tag)
    raw = element.value if isinstance(element, RawDataElement) else None
    return raw if isinstance(raw, bytes) else b""
