"""One accepted connection, from its first PDU to its end: the acceptor of PS3.8 9.2, one thread.

    Sta2   wait for A-ASSOCIATE-RQ         -> accept: Sta6; reject: Sta13
    Sta6   P-DATA-TF: commands are answered one at a time, data sets go straight to their sink
           A-RELEASE-RQ -> A-RELEASE-RP, Sta13        outcome `released`
           A-ABORT                                    outcome `aborted`
           connection closed, or quiet too long       outcome `lost`
           anything else -> A-ABORT                   outcome `aborted`
    Sta13  wait for the peer to close, ARTIM at most

How long the peer may let us wait: ARTIM for its whole A-ASSOCIATE-RQ (PS3.8 9.1.4), afterwards
`idle_s` for the next PDU to begin and `idle_s` for the rest of it. So a byte a second ends too.

Why not a library's reactor: it hands every PDU from one thread to another through memory, which
costs more than the disk. Here one recv_into fills one buffer, and what lies in it is written to the
file as it is. Negotiation is `policy`'s, encoding is `pdu`'s; nothing here knows of disks.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from appliance.dicom import pdu
from appliance.dicom.commitment import PUSH_MODEL
from appliance.dicom.policy import (
    ACCEPTED,
    APPLICATION_CONTEXT,
    CONTEXT_NAME_NOT_SUPPORTED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    VERIFICATION,
    Context,
    Rejection,
)
from appliance.store.rows import Outcome

BUFFER_BYTES = 512 << 10
REQUEST_MAX = 1 << 20
COMMAND_MAX = 64 << 10
ARTIM_S = 30.0
CLOSE_S = 5.0
LEAST_S = 1e-3  # a timeout of 0 would mean another mode of the socket

SUCCESS, SOP_CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION = 0x0000, 0x0122, 0x0211  # PS3.7 annex C


@dataclass(frozen=True, slots=True)
class Answer:
    """Status of a response, and for a failure a comment of at most 64 characters."""

    status: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a C-STORE-RQ says of the data set that follows; as sent, not yet checked."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What an N-ACTION-RQ or N-EVENT-REPORT-RQ of storage commitment says of the data set that
    follows (PS3.7 10.1.1, 10.1.4); as sent, not yet checked."""

    is_answer: bool
    """An N-EVENT-REPORT, else an N-ACTION."""
    type: int
    """Event Type ID or Action Type ID; 0 where there is none."""
    sop_instance: str
    transfer_syntax: str


class Sink(Protocol):
    """Where one data set goes."""

    def write(self, piece: memoryview) -> None: ...

    def finish(self) -> Answer:
        """The data set is complete: keep it durably, or say why not."""
        ...

    def drop(self) -> None:
        """It will never be complete."""
        ...


class Service(Protocol):
    """What an association is about."""

    def requested(self, request: pdu.Request) -> Rejection | None:
        """A-ASSOCIATE-RQ has come; None lets it in."""
        ...

    def negotiated(self, request: pdu.Request) -> list[Context]:
        """The answers to its presentation contexts, once it was let in."""
        ...

    def begin(self, announced: Announced) -> Sink: ...

    def notice(self, notice: Notice) -> Sink: ...

    def answered(self) -> None:
        """The answer to the last data set is on its way: time for what need not delay it."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """An accepted association is over."""
        ...


class _ConnectionLostError(Exception):
    pass


class _UnexpectedPduError(Exception):
    def __init__(self, text: str, reason: int = pdu.UNEXPECTED_PDU) -> None:
        super().__init__(text)
        self.reason = reason


class _Wire:
    """Bytes from a socket through one buffer. Its end is _ConnectionLostError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._memory = memoryview(bytearray(BUFFER_BYTES))
        self._from = self._to = 0
        self._patience_s = 0.0

    def wait_at_most(self, seconds: float) -> None:
        """All waiting for the peer from here on; what we do ourselves in between does not count."""
        self._patience_s = seconds

    def exactly(self, count: int) -> bytes:
        return b"".join(bytes(piece) for piece in self.pieces(count))

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes; each piece is valid until the next is asked for."""
        while count:
            if self._from == self._to:
                self._fill()
            piece = self._memory[self._from : min(self._to, self._from + count)]
            self._from += len(piece)
            count -= len(piece)
            yield piece

    def _fill(self) -> None:
        began = time.monotonic()
        try:
            self._connection.settimeout(max(self._patience_s, LEAST_S))
            got = self._connection.recv_into(self._memory)
        except OSError as e:  # a reset, or quiet for longer than the timeout
            raise _ConnectionLostError(str(e)) from e
        self._patience_s -= time.monotonic() - began
        if not got:
            raise _ConnectionLostError("closed by the peer")
        self._from, self._to = 0, got


def serve(
    connection: socket.socket, service: Service, *, max_pdu: int, idle_s: float
) -> tuple[Outcome, str]:
    """Speak with one peer until the end. Returns how it ended and, in words, why.

    Closing the connection is left to the caller. An error of `service` is passed on after A-ABORT.
    """
    wire = _Wire(connection)
    wire.wait_at_most(min(idle_s, ARTIM_S))
    try:
        request, rejection = _request(wire, service)
        if rejection is not None:
            _send(connection, pdu.reject(rejection))
            _wait_for_close(connection)
            return "refused", ""  # the service has said why
    except _ConnectionLostError as e:
        return "lost", str(e)
    except (_UnexpectedPduError, pdu.MalformedError) as e:
        _abort(connection, e)
        return "refused", str(e)
    outcome: Outcome = "aborted"
    why = "an error of ours"
    try:
        contexts = service.negotiated(request)
        _send(connection, pdu.accept(request, contexts, max_pdu))
        connection.settimeout(idle_s)
        _Conversation(connection, wire, service, contexts, request.max_length, idle_s).run()
        outcome, why = "released", ""
    except _PeerAbortError:
        outcome, why = "aborted", "by the peer"
    except _ConnectionLostError as e:
        outcome, why = "lost", str(e)
        _abort(connection, e)
    except (_UnexpectedPduError, pdu.MalformedError) as e:
        outcome, why = "aborted", str(e)
        _abort(connection, e)
    except BaseException as e:
        _abort(connection, e)
        raise
    finally:
        service.ended(outcome)
    if outcome == "released":
        _wait_for_close(connection)
    return outcome, why


class _PeerAbortError(Exception):
    pass


def _request(wire: _Wire, service: Service) -> tuple[pdu.Request, Rejection | None]:
    kind, length = struct.unpack(">BxI", wire.exactly(6))
    if kind != pdu.ASSOCIATE_RQ or length > REQUEST_MAX:
        raise _UnexpectedPduError("the first PDU is no A-ASSOCIATE-RQ")
    request = pdu.parse_request(wire.exactly(length))
    if not request.protocol_version & 1:  # PS3.8 table 9-11: bit 0
        return request, PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != APPLICATION_CONTEXT:
        return request, CONTEXT_NAME_NOT_SUPPORTED
    return request, service.requested(request)


class _Conversation:
    """Sta6: PDUs until release. One message at a time (PS3.7 D.3.3.3: no asynchronous window)."""

    def __init__(
        self,
        connection: socket.socket,
        wire: _Wire,
        service: Service,
        contexts: list[Context],
        max_length: int,
        idle_s: float,
    ) -> None:
        self._connection = connection
        self._wire = wire
        self._service = service
        self._contexts = {c.id: c for c in contexts if c.result == ACCEPTED}
        self._max_length = max_length
        self._idle_s = idle_s
        self._command = bytearray()
        self._pending: tuple[int, pdu.Command] | None = None
        """Context and command of the message whose data set is coming."""
        self._sink: Sink | None = None

    def run(self) -> None:
        try:
            while True:
                self._wire.wait_at_most(self._idle_s)
                kind, length = struct.unpack(">BxI", self._wire.exactly(6))
                self._wire.wait_at_most(self._idle_s)
                if kind == pdu.P_DATA:
                    self._data(length)
                elif kind == pdu.RELEASE_RQ:
                    _send(self._connection, pdu.release_response())
                    return
                elif kind == pdu.ABORT:
                    raise _PeerAbortError
                elif pdu.ASSOCIATE_RQ <= kind <= pdu.ABORT:
                    raise _UnexpectedPduError(f"PDU type {kind} in an open association")
                else:
                    raise _UnexpectedPduError(f"unknown PDU type {kind}", pdu.UNRECOGNIZED_PDU)
        finally:
            if self._sink is not None:
                self._sink.drop()

    def _data(self, length: int) -> None:
        """P-DATA-TF: presentation data values, one after another (PS3.8 9.3.5, annex E)."""
        while length:
            if length < 6:
                raise _UnexpectedPduError("a P-DATA-TF ends inside a value", pdu.INVALID_PARAMETER)
            size, context, control = struct.unpack(">IBB", self._wire.exactly(6))
            if not 2 <= size <= length - 4:
                raise _UnexpectedPduError(
                    "a value is longer than its P-DATA-TF", pdu.INVALID_PARAMETER
                )
            length -= 4 + size
            if context not in self._contexts:
                raise _UnexpectedPduError(
                    "a value under no accepted context", pdu.INVALID_PARAMETER
                )
            if control & 1:
                self._command_piece(context, size - 2, last=bool(control & 2))
            else:
                self._data_piece(context, size - 2, last=bool(control & 2))

    def _command_piece(self, context: int, size: int, *, last: bool) -> None:
        if self._pending is not None:
            raise _UnexpectedPduError(
                "a command before the end of a data set", pdu.INVALID_PARAMETER
            )
        if len(self._command) + size > COMMAND_MAX:
            raise _UnexpectedPduError("an endless command set", pdu.INVALID_PARAMETER)
        self._command += self._wire.exactly(size)
        if not last:
            return
        command = pdu.parse_command(bytes(self._command))
        self._command.clear()
        if pdu.FIELD not in command or pdu.DATA_SET_TYPE not in command:
            raise _UnexpectedPduError("a command set without its field", pdu.INVALID_PARAMETER)
        if int(command[pdu.FIELD]) & pdu.RESPONSE:
            raise _UnexpectedPduError("a response to nothing", pdu.INVALID_PARAMETER)
        if command[pdu.DATA_SET_TYPE] != pdu.NO_DATA_SET:
            self._pending = context, command
            if self._supported(context, command):
                self._sink = self._begun(context, command)
        elif command[pdu.FIELD] == pdu.C_ECHO_RQ and self._supported(context, command):
            self._answer(context, command, Answer(SUCCESS))
        elif command[pdu.FIELD] == pdu.C_STORE_RQ:
            self._answer(context, command, Answer(0xC000, "C-STORE without a data set"))
        elif command[pdu.FIELD] != pdu.C_CANCEL_RQ:  # nothing runs that could be cancelled
            self._refuse(context, command)

    def _data_piece(self, context: int, size: int, *, last: bool) -> None:
        if self._pending is None or self._pending[0] != context:
            raise _UnexpectedPduError("a data set without its command", pdu.INVALID_PARAMETER)
        for piece in self._wire.pieces(size):
            if self._sink is not None:
                self._sink.write(piece)
        if not last:
            return
        _, command = self._pending
        self._pending = None
        if self._sink is None:
            self._refuse(context, command)
            return
        sink, self._sink = self._sink, None
        self._answer(context, command, sink.finish())
        self._service.answered()

    def _begun(self, context: int, command: pdu.Command) -> Sink | None:
        """Where the data set of a supported command goes; None: it is read and refused."""
        field, syntax = command[pdu.FIELD], self._contexts[context].transfer_syntax
        instance = str(command.get(pdu.SOP_INSTANCE, ""))
        if field == pdu.C_STORE_RQ:
            sop_class = str(command.get(pdu.SOP_CLASS, ""))
            return self._service.begin(Announced(sop_class, instance, syntax))
        if field == pdu.N_EVENT_REPORT_RQ:
            kind = int(command.get(pdu.EVENT_TYPE, 0))
            return self._service.notice(Notice(True, kind, instance, syntax))
        if field == pdu.N_ACTION_RQ:
            kind = int(command.get(pdu.ACTION_TYPE, 0))
            instance = str(command.get(pdu.REQUESTED_INSTANCE, ""))
            return self._service.notice(Notice(False, kind, instance, syntax))
        return None

    def _supported(self, context: int, command: pdu.Command) -> bool:
        """The command is about the class of its context, and of a kind that the peer may send in
        its role (PS3.7 9.1, 10.1, D.3.3.4)."""
        agreed = self._contexts[context]
        if agreed.abstract_syntax == PUSH_MODEL:
            asks, answers = agreed.roles or (True, False)
            if answers and command[pdu.FIELD] == pdu.N_EVENT_REPORT_RQ:
                return command.get(pdu.SOP_CLASS) == PUSH_MODEL
            if asks and command[pdu.FIELD] == pdu.N_ACTION_RQ:
                return command.get(pdu.REQUESTED_CLASS) == PUSH_MODEL
            return False
        expected = pdu.C_ECHO_RQ if agreed.abstract_syntax == VERIFICATION else pdu.C_STORE_RQ
        fits = command.get(pdu.SOP_CLASS) == agreed.abstract_syntax
        return fits and command[pdu.FIELD] == expected

    def _refuse(self, context: int, command: pdu.Command) -> None:
        if command[pdu.FIELD] in (pdu.C_STORE_RQ, pdu.C_ECHO_RQ):
            self._answer(
                context, command, Answer(SOP_CLASS_NOT_SUPPORTED, "not the class of the context")
            )
        else:
            self._answer(context, command, Answer(UNRECOGNIZED_OPERATION))

    def _answer(self, context: int, command: pdu.Command, answer: Answer) -> None:
        """The response to a command (PS3.7 9.3.1.2, 9.3.5.2, 10.3.1.2, 10.3.4.2)."""
        response: dict[int, int | str] = {
            pdu.FIELD: int(command[pdu.FIELD]) | pdu.RESPONSE,
            pdu.RESPONDED_TO: command.get(pdu.MESSAGE_ID, 0),
            pdu.DATA_SET_TYPE: pdu.NO_DATA_SET,
            pdu.STATUS: answer.status,
        }
        for element in (pdu.SOP_CLASS, pdu.SOP_INSTANCE, pdu.EVENT_TYPE, pdu.ACTION_TYPE):
            if element in command:
                response[element] = command[element]
        if pdu.REQUESTED_CLASS in command:
            response[pdu.SOP_CLASS] = command[pdu.REQUESTED_CLASS]
            response[pdu.SOP_INSTANCE] = command.get(pdu.REQUESTED_INSTANCE, "")
        if answer.comment:
            response[pdu.ERROR_COMMENT] = answer.comment[:64]
        _send(self._connection, pdu.command_pdu(context, response, self._max_length))


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError as e:
        raise _ConnectionLostError(str(e)) from e


def _abort(connection: socket.socket, why: BaseException) -> None:
    reason = why.reason if isinstance(why, _UnexpectedPduError) else pdu.NOT_SPECIFIED
    try:
        connection.settimeout(CLOSE_S)
        connection.sendall(pdu.abort(reason))
    except OSError:
        return  # it is gone already


def _wait_for_close(connection: socket.socket) -> None:
    """Sta13: the requestor closes (PS3.8 9.2.3, AR-8); the ARTIM timer ends our patience."""
    deadline = time.monotonic() + CLOSE_S
    try:
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(4096):
                return
    except OSError:
        return
