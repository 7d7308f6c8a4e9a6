"""One association that we open: the requestor of PS3.8 9.2, blocking, in one thread.

    open        TCP (with TLS where asked), A-ASSOCIATE-RQ, A-ASSOCIATE-AC   -> Sta6
    store       C-STORE-RQ and its data set in P-DATA-TF, then the status of the answer (PS3.7 9.1)
    echo        C-ECHO (PS3.7 9.1.5)
    release     A-RELEASE-RQ, A-RELEASE-RP, close

Rules
- One message at a time: no asynchronous operations window is asked for (PS3.7 D.3.3.3).
- Each class is proposed twice: once with explicit and once with implicit VR little endian, so that
  the peer may take either (PS3.8 7.1.1.13, PS3.5 10.1).
- No wait is without a limit (`Limits`), neither for an answer nor for a peer that reads slowly.
- Whatever ends the association is a PeerAway, with a code that says of which kind. What was under
  way then may have been taken or not.
- `cut` may be called from another thread, and ends every wait at once.

Why not a library's: its reactor is a second thread that may take an answer away from who waits for
it (`demo.scanner` works around that), and costs 60 MB. Encoding is `pdu`'s; nothing here knows of
journals and files.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, Final, TypeVar

from appliance.dicom import pdu
from appliance.dicom.part10 import EXPLICIT, IMPLICIT
from appliance.dicom.policy import ACCEPTED, VERIFICATION, Proposed, Rejection, Roles
from appliance.dicom.statuses import NO_CONTEXT
from appliance.dicom.tls import days_left, secured
from appliance.errors import PeerAway
from appliance.settings import TLS

AWAY, REJECTS, SILENT, LEFT, ODD = (
    "peer_away",
    "peer_rejects",
    "peer_silent",
    "peer_left",
    "peer_odd",
)
"""Codes of PeerAway: no connection; A-ASSOCIATE-RJ; no answer in time; the peer ended it; it says
what is no DICOM, or not what was asked."""
OUR_MAX_PDU: Final = 16384
"""We are only sent answers."""
PIECE_BYTES: Final = 128 << 10
ANSWER_MOST: Final = 1 << 20
LEAST_S: Final = 1e-3  # a timeout of 0 would mean another mode of the socket
_REASONS: Final = MappingProxyType(
    {
        (1, 1): "no reason given",
        (1, 2): "application context not supported",
        (1, 3): "calling AE title not recognized",
        (1, 7): "called AE title not recognized",
        (2, 1): "no reason given",
        (2, 2): "protocol version not supported",
        (3, 1): "temporary congestion",
        (3, 2): "local limit exceeded",
    }
)
"""(source, reason) of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to call, and as whom."""

    host: str
    port: int
    called_ae: str
    calling_ae: str
    tls: TLS | None = None
    certificate: str | None = None
    """The one that it must show (`settings.Certificate`); None: one that names `host`."""

    def __str__(self) -> str:
        return f"{self.called_ae}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the peer may let us wait, in seconds."""

    connect_s: float = 10.0
    answer_s: float = 60.0
    send_s: float = 120.0
    """For all of one object to be read by the peer."""
    release_s: float = 5.0


_R = TypeVar("_R", bound="Requestor")


class Requestor:
    """An established association."""

    roles: Mapping[str, Roles] = MappingProxyType({})
    """That we would have, by SOP class; else we are the SCU (PS3.7 D.3.3.4)."""

    def __init__(self, connection: socket.socket, peer: Peer, limits: Limits) -> None:
        """`open` makes one."""
        self._connection = connection
        self._peer = peer
        self._limits = limits
        self._contexts: dict[tuple[str, str], int] = {}
        self._max_length = 0
        self._message = 0

    @classmethod
    def open(
        cls: type[_R], peer: Peer, classes: Sequence[str], limits: Limits | None = None
    ) -> _R:  # fmt: skip
        """Connect and negotiate these SOP classes, and Verification. PeerAway."""
        limits = limits or Limits()
        connection = _connected(peer, limits.connect_s)
        made = cls(connection, peer, limits)
        try:
            made._associate(classes)
        except BaseException:
            connection.close()
            raise
        return made

    def takes(self, sop_class: str, transfer_syntax: str) -> str | None:
        """The transfer syntax in which the peer takes such an object; None: it does not."""
        syntaxes = (EXPLICIT, IMPLICIT) if transfer_syntax == EXPLICIT else (transfer_syntax,)
        return next((one for one in syntaxes if (sop_class, one) in self._contexts), None)

    def store(self, sop_class: str, instance: str, syntax: str, data: BinaryIO, length: int) -> int:
        """Send one object of `length` bytes, and the status that the peer answers (0 to FFFF);
        NO_CONTEXT, unsent, where it has not accepted the class in this syntax. PeerAway."""
        context = self._contexts.get((sop_class, syntax))
        if context is None:
            return NO_CONTEXT
        command: dict[int, int | str] = {
            pdu.SOP_CLASS: sop_class,
            pdu.FIELD: pdu.C_STORE_RQ,
            pdu.PRIORITY: pdu.MEDIUM,
            pdu.DATA_SET_TYPE: pdu.DATA_SET,
            pdu.SOP_INSTANCE: instance,
        }
        end = time.monotonic() + self._limits.send_s
        self._command(context, command, end)
        most = min(self._max_length or PIECE_BYTES, PIECE_BYTES) - 6
        while length > 0:
            piece = data.read(min(most, length))
            if not piece:
                raise PeerAway("the object ended before its length", code=ODD)
            length -= len(piece)
            self._send(pdu.data_header(context, len(piece), last=not length) + piece, end)
        return self._answered(pdu.C_STORE_RQ)

    def echo(self) -> int:
        """The status of C-ECHO; NO_CONTEXT where the peer takes no Verification. PeerAway."""
        context = self._contexts.get((VERIFICATION, EXPLICIT))
        context = self._contexts.get((VERIFICATION, IMPLICIT)) if context is None else context
        if context is None:
            return NO_CONTEXT
        command: dict[int, int | str] = {
            pdu.SOP_CLASS: VERIFICATION,
            pdu.FIELD: pdu.C_ECHO_RQ,
            pdu.DATA_SET_TYPE: pdu.NO_DATA_SET,
        }
        self._command(context, command, time.monotonic() + self._limits.answer_s)
        return self._answered(pdu.C_ECHO_RQ)

    def certificate_days(self) -> float | None:
        """Days until the certificate of the peer ends; None without TLS."""
        return days_left(self._connection, time.time())

    def is_over(self) -> bool:
        """Whether the peer has ended the association while nothing was asked of it."""
        try:
            self._connection.settimeout(0.0)
            said = self._connection.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        if said and said[0] == pdu.RELEASE_RQ:
            with contextlib.suppress(PeerAway):
                self._send(pdu.release_response(), time.monotonic() + self._limits.release_s)
        return True

    def release(self) -> None:
        """End it in order, as far as the peer goes along, and close."""
        end = time.monotonic() + self._limits.release_s
        with contextlib.suppress(PeerAway):
            self._send(pdu.release_request(), end)
            while self._pdu(end)[0] not in (pdu.RELEASE_RP, pdu.ABORT):
                pass
        self._connection.close()

    def abort(self) -> None:
        """End it at once."""
        with contextlib.suppress(PeerAway):
            self._send(pdu.abort(pdu.NOT_SPECIFIED), time.monotonic() + LEAST_S)
        self._connection.close()

    def cut(self) -> None:
        """End every wait of the thread that uses it, which then sees a PeerAway."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _associate(self, classes: Sequence[str]) -> None:
        pairs = [
            (one, syntax) for one in (VERIFICATION, *classes) for syntax in (EXPLICIT, IMPLICIT)
        ]
        asked = [Proposed(2 * n + 1, one, (syntax,)) for n, (one, syntax) in enumerate(pairs)]
        end = time.monotonic() + self._limits.answer_s
        peer = self._peer
        ours, theirs = peer.calling_ae, peer.called_ae
        self._send(pdu.request(ours, theirs, asked, OUR_MAX_PDU, self.roles), end)
        kind, body = self._pdu(end)
        try:
            if kind == pdu.ASSOCIATE_RJ:
                raise _rejected(peer, pdu.parse_reject(body))
            if kind != pdu.ASSOCIATE_AC:
                raise self._odd("answers an A-ASSOCIATE-RQ with something else")
            found = pdu.parse_accept(body, asked)
        except pdu.MalformedError as e:
            raise self._odd(str(e)) from e
        self._max_length = found.max_length
        self._contexts = {
            (one.abstract_syntax, one.transfer_syntax): one.id
            for one in found.contexts
            if one.result == ACCEPTED
        }

    def _command(self, context: int, command: pdu.Command, end: float) -> None:
        self._message = self._message % 0xFFFF + 1
        numbered = {**command, pdu.MESSAGE_ID: self._message}
        self._send(pdu.command_pdu(context, numbered, self._max_length), end)

    def _ask(self, context: int, command: pdu.Command, data: bytes) -> None:
        """A command with its data set."""
        end = time.monotonic() + self._limits.send_s
        self._command(context, command, end)
        most = min(self._max_length or PIECE_BYTES, PIECE_BYTES) - 6
        for at in range(0, len(data), most):
            piece = data[at : at + most]
            last = at + most >= len(data)
            self._send(pdu.data_header(context, len(piece), last=last) + piece, end)

    def _message_of(self, end: float, most: int) -> tuple[int, dict[int, int | str], bytes]:
        """The next message, of `most` bytes: its context, its command and its data set."""
        command, data = bytearray(), bytearray()
        found: dict[int, int | str] | None = None
        try:
            while True:
                kind, body = self._pdu(end)
                if kind in (pdu.RELEASE_RQ, pdu.ABORT):
                    if kind == pdu.RELEASE_RQ:
                        self._send(pdu.release_response(), end)
                    raise PeerAway(f"{self._peer} ended the association", code=LEFT)
                if kind != pdu.P_DATA:
                    raise self._odd("answers with something else")
                for context, control, piece in pdu.values(body):
                    if context not in self._contexts.values():
                        raise self._odd("speaks under no accepted context")
                    (command if control & 0x01 else data).extend(piece)
                    if len(command) + len(data) > most:
                        raise self._odd("sends too much")
                    if control == 0x03:
                        found = pdu.parse_command(bytes(command))
                    over = control & 0x02 and not control & 0x01
                    if found and (over or found.get(pdu.DATA_SET_TYPE) == pdu.NO_DATA_SET):
                        return context, found, bytes(data)
        except pdu.MalformedError as e:
            raise self._odd(str(e)) from e

    def _answered(self, asked: int) -> int:
        """The status of the answer to what was sent last."""
        end = time.monotonic() + self._limits.answer_s
        whole, ended = b"", False
        try:
            while not ended:
                kind, body = self._pdu(end)
                if kind == pdu.RELEASE_RQ:
                    self._send(pdu.release_response(), end)
                if kind in (pdu.RELEASE_RQ, pdu.ABORT):
                    raise PeerAway(f"{self._peer} ended the association unanswered", code=LEFT)
                if kind != pdu.P_DATA or len(whole) > ANSWER_MOST:
                    raise self._odd("answers with something else")
                piece, ended = pdu.response(body)
                whole += piece
            answer = pdu.parse_command(whole)
        except pdu.MalformedError as e:
            raise self._odd(str(e)) from e
        return self._status(answer, asked)

    def _status(self, answer: pdu.Command, asked: int) -> int:
        """The status of an answer, which must be that to what was sent last."""
        status = answer.get(pdu.STATUS)
        fits = answer.get(pdu.RESPONDED_TO) == self._message
        if answer.get(pdu.FIELD) != asked | pdu.RESPONSE or not fits or not isinstance(status, int):
            raise self._odd("answers what was not asked")
        return status

    def _odd(self, text: str) -> PeerAway:
        return PeerAway(
            f"{self._peer}: {text}", code=ODD, remedy="Check that a DICOM archive listens there."
        )

    def _pdu(self, end: float) -> tuple[int, bytes]:
        """The next PDU: its type, and what follows its header (PS3.8 9.3.1)."""
        kind, length = struct.unpack(">BxI", self._exactly(6, end))
        if length > ANSWER_MOST:
            raise self._odd("sends a PDU that is too long for an answer")
        return kind, self._exactly(length, end)

    def _exactly(self, count: int, end: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                self._connection.settimeout(max(end - time.monotonic(), LEAST_S))
                piece = self._connection.recv(count - len(data))
            except TimeoutError as e:
                raise PeerAway(f"{self._peer} does not answer", code=SILENT) from e
            except OSError as e:
                raise PeerAway(f"{self._peer} hung up: {e.strerror or e}", code=LEFT) from e
            if not piece:
                raise PeerAway(f"{self._peer} hung up", code=LEFT)
            data += piece
        return bytes(data)

    def _send(self, data: bytes, end: float) -> None:
        try:
            self._connection.settimeout(max(end - time.monotonic(), LEAST_S))
            self._connection.sendall(data)
        except TimeoutError as e:
            raise PeerAway(f"{self._peer} does not read what is sent", code=SILENT) from e
        except OSError as e:
            raise PeerAway(f"{self._peer} hung up: {e.strerror or e}", code=LEFT) from e


def _connected(peer: Peer, within_s: float) -> socket.socket:
    """A connection to the peer. PeerAway."""
    try:
        connection = socket.create_connection((peer.host, peer.port), within_s)
    except OSError as e:
        raise PeerAway(f"{peer}: no connection: {e.strerror or e}", code=AWAY) from e
    try:
        # Nagle's algorithm against delayed acknowledgements costs 40 ms an object
        with contextlib.suppress(OSError):  # the peer has gone again: the next step says so
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if peer.tls is None:
            return connection
        return secured(connection, peer.host, peer.tls, peer.certificate)
    except BaseException:
        connection.close()
        raise


def _rejected(peer: Peer, why: Rejection) -> PeerAway:
    result, source, reason = why
    said = _REASONS.get((source, reason), f"source {source}, reason {reason}")
    lasting = "for now" if result == 2 else "for good"  # PS3.8 table 9-21
    return PeerAway(
        f"{peer} rejects the association of {peer.calling_ae} {lasting}: {said}",
        code=REJECTS,
        remedy=f"Let the archive know us as {peer.calling_ae}, and check how it is called itself.",
    )
