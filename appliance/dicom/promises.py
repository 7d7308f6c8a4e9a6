"""Associations about storage commitment that we open (PS3.4 J).

    Asking      we are the SCU: N-ACTION, and answers that come on the same association
    Telling     we are the SCP, by role selection (PS3.7 D.3.3.4): N-EVENT-REPORT

Rules
- An answer may come before the response to the request: the peer need not wait for anything
  (PS3.4 J.3.3.1.3). It is taken by `on_event`, and only then answered.
- No answer on this association is no fault: most archives open one of their own.
- A peer that is asked for anything else than a response or such an answer is `peer_odd`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from appliance.dicom import commitment, pdu
from appliance.dicom.answers import Event
from appliance.dicom.association import Answer
from appliance.dicom.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from appliance.dicom.policy import Roles
from appliance.dicom.requestor import LEFT, SILENT, Requestor
from appliance.dicom.statuses import NO_CONTEXT
from appliance.errors import PeerAway
from appliance.store import commitment as promised
from appliance.store.commitment import Request

CLASSES: Final = (PUSH_MODEL,)


class Asking(Requestor):
    """We ask an archive to promise."""

    def ask(self, request: Request, on_event: Callable[[Event], Answer]) -> int:
        """The status of the response; NO_CONTEXT, unsent, where the archive promises nothing.
        PeerAway: whether it took the request is not known."""
        syntax = self._syntax()
        if syntax is None:
            return NO_CONTEXT
        command: dict[int, int | str] = {
            pdu.REQUESTED_CLASS: PUSH_MODEL,
            pdu.REQUESTED_INSTANCE: PUSH_MODEL_INSTANCE,
            pdu.FIELD: pdu.N_ACTION_RQ,
            pdu.ACTION_TYPE: commitment.ASK,
            pdu.DATA_SET_TYPE: pdu.DATA_SET,
        }
        context = self._contexts[PUSH_MODEL, syntax]
        self._ask(context, command, commitment.written_request(request, syntax))
        end = time.monotonic() + self._limits.answer_s
        while True:
            context, found, data = self._next_message(end)
            if found.get(pdu.FIELD) == pdu.N_EVENT_REPORT_RQ:
                self._take(context, found, data, on_event)
            else:
                return self._status(found, pdu.N_ACTION_RQ)

    def listen(self, within_s: float, on_event: Callable[[Event], Answer]) -> bool:
        """Take the next answer; False where there is none in this time, or the peer has ended the
        association."""
        try:
            context, found, data = self._next_message(time.monotonic() + within_s)
        except PeerAway as e:
            if e.code in (SILENT, LEFT):
                return False
            raise
        if found.get(pdu.FIELD) != pdu.N_EVENT_REPORT_RQ:
            raise self._odd("says what was not asked")
        self._take(context, found, data, on_event)
        return True

    def _take(
        self,
        context: int,
        command: pdu.Command,
        data: bytes,
        on_event: Callable[[Event], Answer],
    ) -> None:
        """Answer an N-EVENT-REPORT-RQ (PS3.7 10.3.1.2)."""
        syntax = next(one for (_, one), known in self._contexts.items() if known == context)
        instance = str(command.get(pdu.SOP_INSTANCE, ""))
        kind = int(command.get(pdu.EVENT_TYPE, 0))
        answer = on_event(Event(kind, instance, syntax, data))
        response: dict[int, int | str] = {
            pdu.SOP_CLASS: PUSH_MODEL,
            pdu.FIELD: pdu.N_EVENT_REPORT_RQ | pdu.RESPONSE,
            pdu.RESPONDED_TO: command.get(pdu.MESSAGE_ID, 0),
            pdu.DATA_SET_TYPE: pdu.NO_DATA_SET,
            pdu.STATUS: answer.status,
            pdu.SOP_INSTANCE: instance,
            pdu.EVENT_TYPE: kind,
        }
        if answer.comment:
            response[pdu.ERROR_COMMENT] = answer.comment[:64]
        end = time.monotonic() + self._limits.answer_s
        self._send(pdu.command_pdu(context, response, self._max_length), end)

    def _next_message(self, end: float) -> tuple[int, dict[int, int | str], bytes]:
        return self._message_of(end, commitment.DATA_MOST)

    def _syntax(self) -> str | None:
        """The transfer syntax in which the peer speaks of storage commitment; None: it does not."""
        known = (one for one in commitment.SYNTAXES if (PUSH_MODEL, one) in self._contexts)
        return next(known, None)


class Telling(Asking):
    """We tell a sender what is promised."""

    roles = MappingProxyType({PUSH_MODEL: Roles(scu=False, scp=True)})

    def tell(self, answer: promised.Answer) -> int:
        """The status of the response; NO_CONTEXT, unsent, where the sender hears no answers.
        PeerAway."""
        syntax = self._syntax()
        if syntax is None:
            return NO_CONTEXT
        kind, data = commitment.written_answer(answer, syntax)
        command: dict[int, int | str] = {
            pdu.SOP_CLASS: PUSH_MODEL,
            pdu.SOP_INSTANCE: PUSH_MODEL_INSTANCE,
            pdu.FIELD: pdu.N_EVENT_REPORT_RQ,
            pdu.EVENT_TYPE: kind,
            pdu.DATA_SET_TYPE: pdu.DATA_SET,
        }
        self._ask(self._contexts[PUSH_MODEL, syntax], command, data)
        _, found, _ = self._next_message(time.monotonic() + self._limits.answer_s)
        return self._status(found, pdu.N_EVENT_REPORT_RQ)
