"""What becomes of an answer of storage commitment, on whichever association it comes (PS3.4 J.3.3).

    what came                                                       status
    an answer to a request that is open for this archive            0000    it counts
    the same again                                                  0000    -
    an answer to no such request, or not about its references       0115    refused
    another Event Type ID than 1 and 2                              0113    refused
    not to the well-known instance                                  0112    refused
    not as PS3.4 J.3 has it                                         0115    refused

  (PS3.7 annex C.)

Success means that the journal has it, durably. What is refused changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from appliance.dicom import commitment
from appliance.dicom.association import SUCCESS, Answer
from appliance.store.commitment import Taken
from appliance.store.journal import Journal

LOG = logging.getLogger(__name__)

NO_SUCH_INSTANCE, NO_SUCH_EVENT, INVALID = 0x0112, 0x0113, 0x0115
_WHY: Final = MappingProxyType(
    {
        Taken.UNKNOWN: "no such transaction is open for this peer",
        Taken.OTHER_REFERENCES: "not the references of the request",
    }
)
"""Why an answer does not count."""


@dataclass(frozen=True, slots=True)
class Event:
    """An N-EVENT-REPORT-RQ as it came."""

    type: int
    """Event Type ID."""
    sop_instance: str
    transfer_syntax: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """What is answered to it. code: of a refusal; empty where it was taken."""

    answer: Answer
    code: str = ""
    transaction_uid: str = ""


def take(journal: Journal, event: Event, destinations: Collection[str]) -> Heard:
    """destinations: all that this peer is, by their names. StateUnusable."""
    if event.sop_instance != commitment.PUSH_MODEL_INSTANCE:
        return Heard(Answer(NO_SUCH_INSTANCE, "not to the well-known instance"), "instance")
    if event.type not in (commitment.ALL_KEPT, commitment.SOME_FAILED):
        return Heard(Answer(NO_SUCH_EVENT, "no such type of event"), "event_type")
    try:
        said = commitment.read_answer(event.type, event.data, event.transfer_syntax)
    except commitment.Malformed as e:
        return Heard(Answer(INVALID, e.text), e.code)
    taken = journal.commitments.take(said, destinations)
    if (why := _WHY.get(taken)) is not None:
        return Heard(Answer(INVALID, why), taken.value, said.transaction_uid)
    LOG.info("of %d objects %d are promised", len(said.kept) + len(said.failed), len(said.kept))
    return Heard(Answer(SUCCESS), "", said.transaction_uid)
