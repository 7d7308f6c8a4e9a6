"""What an answer to C-STORE means for what was sent. Pure: a table, and what follows from it.

Rules (statuses: PS3.4 table B.2-1, PS3.7 annex C)
- Success (0000), a warning (Bxxx: coerced, elements discarded) and a duplicate (0111: the archive
  has that UID, and ours always has the same bytes) are sent.
- Out of resources (A7xx) is the archive's trouble: it is asked again for as long as that takes.
- What does not fit its class (A9xx) and what is not authorized (0124) never changes by itself: it
  is dead at once, with its status and what a person can do.
- A class that is refused (0122, or no presentation context) is told apart from other refusals: an
  older class of the same content may be taken.
- All else, "cannot understand" (Cxxx) and processing failure (0110) among it, may be a whim or a
  fault of ours: TRIES says how often it is tried, over more than an hour, until it is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from appliance.store.delivery import Event
from appliance.store.patience import Fault, Patience

NO_CONTEXT: Final = 0x0122
"""Stands for a class for which the association has no accepted context: the peer was not asked."""
TRIES: Final = Patience(shortest_s=330.0, longest_s=2640.0, refusals=5)
"""Of what is refused without a clear word."""


class Answer(str, Enum):
    """What the archive made of it."""

    SENT = "sent"
    BUSY = "busy"
    CLASS_REFUSED = "class_refused"
    NOT_AUTHORIZED = "not_authorized"
    UNFIT = "unfit"
    UNCLEAR = "unclear"


RANGES: Final = (
    (0x0000, 0x0000, Answer.SENT),
    (0x0111, 0x0111, Answer.SENT),
    (0x0122, 0x0122, Answer.CLASS_REFUSED),
    (0x0124, 0x0124, Answer.NOT_AUTHORIZED),
    (0xA700, 0xA7FF, Answer.BUSY),
    (0xA900, 0xA9FF, Answer.UNFIT),
    (0xB000, 0xBFFF, Answer.SENT),
)
"""(lowest, highest, answer); every other status is UNCLEAR."""

REMEDIES: Final = MappingProxyType(
    {
        Answer.BUSY: "Free space on the archive; it is asked again by itself.",
        Answer.CLASS_REFUSED: "Let the archive accept this SOP class, or take it out of `profile`.",
        Answer.NOT_AUTHORIZED: "Let the archive accept objects from `ae_title`, then "
        "`scanside outbox retry`.",
        Answer.UNFIT: "Keep the log of the archive, which says what it misses, and call the fleet "
        "team.",
        Answer.UNCLEAR: "Read the log of the archive; then `scanside outbox retry`.",
    }
)
"""What a person can do."""

_FAULTS: Final = MappingProxyType(
    {
        Answer.BUSY: Fault.PASSING,
        Answer.CLASS_REFUSED: Fault.OWN,
        Answer.NOT_AUTHORIZED: Fault.OWN,
        Answer.UNFIT: Fault.OWN,
        Answer.UNCLEAR: Fault.FORBIDDEN,
    }
)


def answer(status: int) -> Answer:
    """What a status (0 to FFFF) means."""
    return next((found for low, high, found in RANGES if low <= status <= high), Answer.UNCLEAR)


def event(meant: Answer, refused: int) -> Event:
    """What becomes of the delivery. refused: how often the answer was UNCLEAR, with this time."""
    if meant is Answer.SENT:
        return Event.ACK
    return TRIES.verdict(_FAULTS[meant], refused)


def sentence(status: int, service: str = "C-STORE") -> str:
    """A refusal for the last error of the row: status, meaning and remedy."""
    meant = answer(status)
    return f"{service} 0x{status:04X}, {meant.value.replace('_', ' ')}. {REMEDIES[meant]}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the archive answered about one object."""

    meant: Answer
    said: str = ""
    """Of what is not taken: status, meaning and remedy, for a person."""
    mark: str | None = None
    """Of what is taken, with more than plain success: what is kept of that."""


def reply(status: int, service: str = "C-STORE") -> Reply:
    """The reply that a status (0 to FFFF) of this service is."""
    meant = answer(status)
    if meant is Answer.SENT:
        return Reply(meant, mark=f"taken with {service} 0x{status:04X}" if status else None)
    return Reply(meant, said=sentence(status, service))
