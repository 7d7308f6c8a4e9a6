"""Storage commitment (PS3.4 J): what was asked of an archive, what it answered, what that means.

Pure: a table, and one comparison.

Rules
- An answer counts only if it names every reference of its request once, as kept or as failed, and
  no other one (PS3.4 J.3.3.1.2). Half an answer, or more than was asked, changes nothing.
- What failed is dealt with by the reason (REASONS): an archive that has no such object gets it once
  more; a reason that may pass is asked about again; what can never be kept is dead. A reason that
  no table has may pass too.
- An archive is asked again after ASKED_AGAIN_S, under a new Transaction UID: a UID stands for one
  request (PS3.4 J.3.2.1.2). A late answer to an earlier request counts all the same.
- What is not promised GIVE_UP_S after it was first asked about is dead, in words; but never before
  it was asked about ASKED_AT_LEAST times, so that a clock that is set kills nothing.
"""

from __future__ import annotations

import uuid
from collections import Counter
from enum import Enum
from types import MappingProxyType
from typing import Final

from appliance.report import Record

ASKED_AGAIN_S: Final = 600.0
GIVE_UP_S: Final = 86400.0
ASKED_AT_LEAST: Final = 3

PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_OBJECT: Final = 0x0112


class Reference(Record):
    """One object that a request or an answer names."""

    sop_class: str
    sop_instance: str


class Failed(Record):
    """One object that the archive does not promise to keep."""

    reference: Reference
    reason: int
    """Failure Reason (0008,1197), 0 to FFFF."""


class Request(Record):
    """What an N-ACTION asks (PS3.4 table J.3-1)."""

    transaction_uid: str
    references: tuple[Reference, ...]


class Answer(Record):
    """What an N-EVENT-REPORT says (PS3.4 table J.3-2)."""

    transaction_uid: str
    kept: tuple[Reference, ...]
    failed: tuple[Failed, ...]


class Taken(Enum):
    """What became of an answer."""

    COUNTS = "counts"
    REPEATED = "repeated"
    """It was answered before: nothing changes, and who says it again is told that it was heard."""
    UNKNOWN = "unknown"
    """No request of this Transaction UID was ever made of this archive."""
    OTHER_REFERENCES = "other_references"
    """It does not name what was asked, or not once each."""


class Then(Enum):
    """What is done about an object that the archive does not promise to keep."""

    SEND = "send"
    """Send it once more, then ask again."""
    ASK = "ask"
    """Ask again later."""
    BURY = "bury"
    """It can never be kept there: a person decides."""


REASONS: Final = MappingProxyType(
    {
        PROCESSING_FAILURE: (Then.ASK, "processing failure"),
        NO_SUCH_OBJECT: (Then.SEND, "no such object"),
        0x0119: (Then.BURY, "it has that UID with another SOP class"),
        0x0122: (Then.BURY, "it keeps no objects of this SOP class"),
        0x0131: (Then.ASK, "the Transaction UID was in use"),
        0x0213: (Then.ASK, "out of resources"),
    }
)
"""Failure Reason (PS3.3 C.14.1.1) -> what is done, and what it means in words."""


def then(reason: int) -> Then:
    """What is done about a reason; one that no table has may pass."""
    return REASONS.get(reason, (Then.ASK, ""))[0]


def sentence(reason: int) -> str:
    """A reason for a person."""
    words = REASONS.get(reason, (Then.ASK, "a reason that DICOM does not name"))[1]
    return f"the archive does not promise to keep it: 0x{reason:04X}, {words}"


def answers_all(answer: Answer, asked: tuple[Reference, ...]) -> bool:
    """Whether an answer names exactly what was asked, each once."""
    named = Counter((*answer.kept, *(one.reference for one in answer.failed)))
    return named == Counter(asked) and max(named.values(), default=1) == 1


def new_uid() -> str:
    """A Transaction UID that nobody can guess: 122 random bits (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"
