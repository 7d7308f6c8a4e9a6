"""Storage commitment on one association: what archives answer us, and what senders ask us.

    what came                                                       status
    an answer of an archive                                         as `dicom.answers` says
    a request of a sender that says where it takes the answer       0000    `deliver` asks for it
    the same again                                                  0000    -
    its Transaction UID stands for another request                  0115    refused
    another Action Type ID than 1                                   0123    refused
    a sender without [[dicom.allow]] commitment                     0124    refused
    too many wait                                                   0213    refused
    not to the well-known instance                                  0112    refused
    not as PS3.4 J.3 has it                                         0115    refused
    the journal cannot be had                                       0110    -

  (PS3.4 J.3.2.1, J.3.3.1; PS3.7 annex C.)

Rules
- Success means that the journal has it, durably: never one that stands in for it.
- What is refused changes nothing and is an event, of which an hour has so many at most: so a forged
  promise frees nothing, and fills no disk.
- `deliver` is woken for what there is to do.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from appliance.dicom import answers, commitment
from appliance.dicom.answers import Event
from appliance.dicom.association import SUCCESS, Answer, Notice, Sink
from appliance.dicom.policy import Grants
from appliance.errors import StateUnusable
from appliance.store import bell, events
from appliance.store.journal import Journal
from appliance.store.journal.commitments import Asked

LOG = logging.getLogger(__name__)

DELIVER: Final = "deliver"
PROCESSING_FAILURE, NO_SUCH_INSTANCE, INVALID, NO_SUCH_ACTION = 0x0110, 0x0112, 0x0115, 0x0123
NOT_AUTHORIZED, OUT_OF_RESOURCES = 0x0124, 0x0213

_REQUESTS: Final = MappingProxyType(
    {
        Asked.IN_USE: (INVALID, "the Transaction UID is in use"),
        Asked.TOO_MANY: (OUT_OF_RESOURCES, "too many requests wait"),
    }
)
"""Why a request is not taken."""


def addresses(host: str) -> frozenset[str]:
    """The addresses of a host name; none where nobody knows it now."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as e:
        LOG.warning("%s has no address: %s", host, e.strerror or e)
        return frozenset()
    return frozenset(str(ipaddress.ip_address(str(one[4][0]).partition("%")[0])) for one in found)


class Commitments:
    """The service of one association."""

    def __init__(
        self,
        state: Path,
        durable: Callable[[], Journal | None],
        *,
        calling_ae: str,
        host: str,
        grants: Grants,
    ) -> None:
        self._state = state
        self._durable = durable
        self._calling = calling_ae
        self._host = host
        self._grants = grants
        self._wakes = False

    def begin(self, notice: Notice) -> Sink:
        return _Collected(lambda data: self._taken(notice, data))

    def answered(self) -> None:
        """The response is on its way: wake who has something to do now."""
        if self._wakes:
            self._wakes = False
            bell.ring(self._state, DELIVER)

    def _taken(self, notice: Notice, data: bytes) -> Answer:
        try:
            journal = self._durable()
            if journal is None:
                return Answer(PROCESSING_FAILURE, "the journal is away, send it again")
            take = self._answer if notice.is_answer else self._request
            return take(journal, notice, data)
        except StateUnusable as e:
            LOG.error("%s", e.one_line())
            return Answer(PROCESSING_FAILURE, "the journal is away, send it again")

    def _answer(self, journal: Journal, notice: Notice, data: bytes) -> Answer:
        event = Event(notice.type, notice.sop_instance, notice.transfer_syntax, data)
        heard = answers.take(journal, event, self._grants.archives)
        if heard.code:
            return self._refused(journal, heard.answer.status, heard.code, heard.answer.comment)
        self._wakes = True
        return heard.answer

    def _request(self, journal: Journal, notice: Notice, data: bytes) -> Answer:
        if notice.sop_instance != commitment.PUSH_MODEL_INSTANCE:
            return self._refused(
                journal, NO_SUCH_INSTANCE, "instance", "not to the well-known instance"
            )
        if notice.type != commitment.ASK:
            return self._refused(journal, NO_SUCH_ACTION, "action_type", "no such type of action")
        if self._grants.answer_to is None:
            return self._refused(
                journal,
                NOT_AUTHORIZED,
                "no_answer_to",
                "its [[dicom.allow]] names no `commitment` address",
            )
        try:
            asked = commitment.read_request(data, notice.transfer_syntax)
        except commitment.Malformed as e:
            return self._refused(journal, INVALID, e.code, e.text)
        became = journal.commitments.relay(
            asked, calling_ae=self._calling, host=self._host, answer_to=self._grants.answer_to
        )
        if (why := _REQUESTS.get(became)) is not None:
            return self._refused(journal, why[0], became.value, why[1])
        LOG.info("%s asks for a promise about %d objects", self._calling, len(asked.references))
        self._wakes = True
        return Answer(SUCCESS)

    def _refused(self, journal: Journal, status: int, code: str, text: str) -> Answer:
        LOG.warning("storage commitment of %s at %s: %s", self._calling, self._host, text)
        journal.events.add_rationed(
            events.CommitmentRefused(subject=self._calling, code=code, text=text, host=self._host)
        )
        return Answer(status, text)


class _Collected:
    """A sink in memory, of what is small."""

    def __init__(self, take: Callable[[bytes], Answer]) -> None:
        self._take = take
        self._data = bytearray()

    def write(self, piece: memoryview) -> None:
        if len(self._data) <= commitment.DATA_MOST:  # beyond it, reading refuses what there is
            self._data += piece

    def finish(self) -> Answer:
        return self._take(bytes(self._data))

    def drop(self) -> None:
        self._data.clear()
