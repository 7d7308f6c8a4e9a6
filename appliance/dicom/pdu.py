"""The PDUs of an association and the command sets within, as bytes (PS3.8 9.3, PS3.7 6.3).

Pure. Parsing never trusts a length and ignores items it does not know (PS3.8 9.3.1); what it
cannot read raises MalformedError. Only what our messages need is here, for an acceptor
(`association`) and for a requestor (`requestor`). The hot part of P-DATA is read straight from the
socket in `association`.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from types import MappingProxyType

from appliance.dicom.policy import APPLICATION_CONTEXT, Context, Proposed, Rejection, Roles
from appliance.report import NAMESPACE

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

IMPLEMENTATION_CLASS_UID = f"2.25.{uuid.uuid5(NAMESPACE, 'implementation').int}"  # PS3.5 B.2

# PS3.8 table 9-26: reasons of a provider's abort
NOT_SPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0, 1, 2, 6

# Command elements (PS3.7 E.1), by element number within group 0000.
SOP_CLASS, FIELD, MESSAGE_ID, RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
PRIORITY, DATA_SET_TYPE, STATUS, ERROR_COMMENT, SOP_INSTANCE = (
    0x0700,
    0x0800,
    0x0900,
    0x0902,
    0x1000,
)
NO_DATA_SET, DATA_SET = 0x0101, 0x0001
MEDIUM = 0x0000
C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ, RESPONSE = 0x0001, 0x0030, 0x0FFF, 0x8000
# Of query and retrieve (PS3.7 9.3.2, 9.3.4).
C_FIND_RQ, C_MOVE_RQ, MOVE_DESTINATION = 0x0020, 0x0021, 0x0600
COMPLETED, FAILED = 0x1021, 0x1022
# Of the notifications and actions of storage commitment (PS3.7 10.3.1, 10.3.4).
REQUESTED_CLASS, REQUESTED_INSTANCE, EVENT_TYPE, ACTION_TYPE = 0x0003, 0x1001, 0x1002, 0x1008
N_EVENT_REPORT_RQ, N_ACTION_RQ = 0x0100, 0x0130

_NUMBERS = frozenset(
    (
        FIELD, MESSAGE_ID, RESPONDED_TO, DATA_SET_TYPE, STATUS, EVENT_TYPE, ACTION_TYPE,
        COMPLETED, FAILED,
    )
)  # fmt: skip
_TEXTS = frozenset((SOP_CLASS, SOP_INSTANCE, REQUESTED_CLASS, REQUESTED_INSTANCE))

Command = Mapping[int, int | str]


@cache
def implementation_version() -> str:
    """Implementation version name, at most 16 characters (PS3.7 D.3.3.2.4)."""
    try:
        return f"SCANSIDE_{metadata.version('scanside')}"[:16]
    except metadata.PackageNotFoundError:
        return "SCANSIDE"


class MalformedError(ValueError):
    """These bytes are no PDU or command set; the association is aborted."""


@dataclass(frozen=True, slots=True)
class Request:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2): what of it matters to us."""

    protocol_version: int
    called_ae: str
    calling_ae: str
    application_context: str
    contexts: tuple[Proposed, ...]
    max_length: int
    """The longest P-DATA the peer takes; 0: any (PS3.8 D.1)."""
    implementation: str
    """Its implementation version name, for the log."""
    roles: Mapping[str, Roles] = field(default_factory=dict)
    """By SOP class: which roles the peer would have (PS3.7 D.3.3.4)."""


def parse_request(body: bytes) -> Request:
    """The A-ASSOCIATE-RQ without its six header bytes."""
    if len(body) < 68:
        raise MalformedError("A-ASSOCIATE-RQ is too short")
    application, contexts, max_length, implementation = "", [], 0, ""
    roles: dict[str, Roles] = {}
    for kind, item in _items(body[68:]):
        if kind == 0x10:
            application = _text(item)
        elif kind == 0x20:
            contexts.append(_proposed(item))
            ids = [context.id for context in contexts]
            if not ids[-1] & 1 or len(set(ids)) < len(ids):  # PS3.8 9.3.2.2: odd, each once
                raise MalformedError(f"presentation context {ids[-1]} is even or comes twice")
        elif kind == 0x50:
            for sub, value in _items(item):
                if sub == 0x51 and len(value) == 4:
                    max_length = int.from_bytes(value, "big")
                elif sub == 0x55:
                    implementation = _text(value)
                elif sub == 0x54 and len(value) >= 4:
                    roles.update(_selected(value))
    return Request(
        int.from_bytes(body[0:2], "big"),
        _text(body[4:20]),
        _text(body[20:36]),
        application,
        tuple(contexts),
        max_length,
        implementation,
        roles,
    )


@dataclass(frozen=True, slots=True)
class Accepted:
    """A-ASSOCIATE-AC (PS3.8 9.3.3): what of it matters to us."""

    contexts: tuple[Context, ...]
    """Of those that we proposed, in the order in which they are answered."""
    max_length: int
    """The longest P-DATA the peer takes; 0: any (PS3.8 D.1)."""
    roles: Mapping[str, Roles] = field(default_factory=dict)
    """By SOP class: which of the roles that we asked for we have (PS3.7 D.3.3.4)."""


def request(
    calling: str,
    called: str,
    proposed: Iterable[Proposed],
    max_length: int,
    roles: Mapping[str, Roles] = MappingProxyType({}),
) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2). roles: that we would have, by SOP class."""
    contexts = b"".join(
        _item(
            0x20,
            struct.pack(">BBBB", one.id, 0, 0, 0)
            + _item(0x30, _ascii(one.abstract_syntax))
            + b"".join(_item(0x40, _ascii(uid)) for uid in one.transfer_syntaxes),
        )
        for one in proposed
    )
    return _pdu(ASSOCIATE_RQ, _associate(called, calling, contexts, max_length, roles))


def parse_accept(body: bytes, proposed: Iterable[Proposed]) -> Accepted:
    """The A-ASSOCIATE-AC without its six header bytes; a context that we never proposed is passed
    over."""
    if len(body) < 68:
        raise MalformedError("A-ASSOCIATE-AC is too short")
    asked = {one.id: one for one in proposed}
    contexts, max_length = [], 0
    roles: dict[str, Roles] = {}
    for kind, item in _items(body[68:]):
        if kind == 0x21 and len(item) >= 4 and item[0] in asked:
            chosen = [_text(value) for sub, value in _items(item[4:]) if sub == 0x40]
            name = asked[item[0]].abstract_syntax
            contexts.append(Context(item[0], name, chosen[0] if chosen else "", item[2]))
        elif kind == 0x50:
            for sub, value in _items(item):
                if sub == 0x51 and len(value) == 4:
                    max_length = int.from_bytes(value, "big")
                elif sub == 0x54 and len(value) >= 4:
                    roles.update(_selected(value))
    return Accepted(tuple(contexts), max_length, roles)


def parse_reject(body: bytes) -> Rejection:
    """The A-ASSOCIATE-RJ without its six header bytes (PS3.8 9.3.4)."""
    if len(body) < 4:
        raise MalformedError("A-ASSOCIATE-RJ is too short")
    return body[1], body[2], body[3]


def _proposed(item: bytes) -> Proposed:
    if len(item) < 4:
        raise MalformedError("a presentation context is too short")
    abstract, transfer = "", []
    for kind, value in _items(item[4:]):
        if kind == 0x30:
            abstract = _text(value)
        elif kind == 0x40:
            transfer.append(_text(value))
    return Proposed(item[0], abstract, tuple(transfer))


def accept(request: Request, contexts: Sequence[Context], max_length: int) -> bytes:
    """A-ASSOCIATE-AC (PS3.8 9.3.3), with our maximum length and implementation (PS3.7 D.3.3)."""
    answers = b"".join(
        _item(
            0x21,
            struct.pack(">BBBB", c.id, 0, c.result, 0) + _item(0x40, _ascii(c.transfer_syntax)),
        )
        for c in contexts
    )
    roles = {c.abstract_syntax: c.roles for c in contexts if c.roles is not None}
    body = _associate(request.called_ae, request.calling_ae, answers, max_length, roles)
    return _pdu(ASSOCIATE_AC, body)


def _associate(
    called: str, calling: str, contexts: bytes, max_length: int, roles: Mapping[str, Roles]
) -> bytes:
    """What A-ASSOCIATE-RQ and -AC have in common."""
    user = (
        _item(0x51, struct.pack(">I", max_length))
        + _item(0x52, IMPLEMENTATION_CLASS_UID.encode())
        + _item(0x55, implementation_version().encode())
        + b"".join(_role(sop_class, one) for sop_class, one in roles.items())
    )
    titles = _ascii(called).ljust(16)[:16] + _ascii(calling).ljust(16)[:16]
    application = _item(0x10, APPLICATION_CONTEXT.encode())
    head = struct.pack(">HH", 1, 0) + titles + bytes(32)
    return head + application + contexts + _item(0x50, user)


def _role(sop_class: str, roles: Roles) -> bytes:
    """SCP/SCU role selection of a class (PS3.7 D.3.3.4)."""
    uid = _ascii(sop_class)
    return _item(0x54, struct.pack(">H", len(uid)) + uid + bytes((roles.scu, roles.scp)))


def _selected(item: bytes) -> dict[str, Roles]:
    """The same as it was sent: a class and its roles."""
    return {_text(item[2:-2]): Roles(bool(item[-2]), bool(item[-1]))}


def reject(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return _pdu(ASSOCIATE_RJ, bytes((0, *rejection)))


def release_request() -> bytes:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""
    return _pdu(RELEASE_RQ, bytes(4))


def release_response() -> bytes:
    """A-RELEASE-RP (PS3.8 9.3.7)."""
    return _pdu(RELEASE_RP, bytes(4))


def abort(reason: int) -> bytes:
    """A-ABORT by the service provider (PS3.8 9.3.8)."""
    return _pdu(ABORT, bytes((0, 0, 2, reason)))


def command_pdu(context: int, command: Command, max_length: int = 0) -> bytes:
    """A command set without data set in P-DATA-TF of at most `max_length` bytes after their header;
    0: any (PS3.8 9.3.5, D.1, E.2)."""
    body = encode_command(command)
    most = max(2, (max_length - 6) & ~1) if max_length else len(body)
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    return b"".join(
        _pdu(P_DATA, struct.pack(">IBB", len(piece) + 2, context, control) + piece)
        for piece, control in zip(pieces, [0x01] * (len(pieces) - 1) + [0x03], strict=True)
    )


def data_header(context: int, length: int, *, last: bool) -> bytes:
    """What precedes a piece of a data set of `length` bytes in a P-DATA-TF (PS3.8 9.3.5, E.2)."""
    return struct.pack(">BBIIBB", P_DATA, 0, length + 6, length + 2, context, 0x02 if last else 0)


def values(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The presentation data values of a P-DATA-TF without its header (PS3.8 9.3.5): context,
    control byte (bit 0: of a command, bit 1: its last) and what each holds."""
    at = 0
    while at < len(body):
        if len(body) - at < 6:
            raise MalformedError("a P-DATA ends inside a value")
        length, context, control = struct.unpack_from(">IBB", body, at)
        if length < 2 or at + 4 + length > len(body):
            raise MalformedError("a value is longer than its P-DATA")
        yield context, control, body[at + 6 : at + 4 + length]
        at += 4 + length


def response(body: bytes) -> tuple[bytes, bool]:
    """What a P-DATA-TF without its header holds of a command set, and whether that ends with it.

    MalformedError where it holds a piece of a data set: no answer of C-STORE or C-ECHO has one.
    """
    found, ended = b"", False
    for _, control, piece in values(body):
        if not control & 0x01:
            raise MalformedError("a P-DATA holds no answer")
        found += piece
        ended = bool(control & 0x02)
    return found, ended


def encode_command(command: Command) -> bytes:
    """A command set: implicit VR little endian, with its group length (PS3.7 6.3.1)."""
    body = b""
    for element, value in sorted(command.items()):
        if isinstance(value, int):
            data = struct.pack("<H", value)
        else:
            data = _ascii(value)
            data += (b"\0" if element in _TEXTS else b" ") * (len(data) % 2)
        body += struct.pack("<HHI", 0, element, len(data)) + data
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def parse_command(data: bytes) -> dict[int, int | str]:
    """Numbers and UIDs of a command set; other elements are passed over."""
    found: dict[int, int | str] = {}
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise MalformedError("the command set ends inside an element")
        group, element, length = struct.unpack_from("<HHI", data, at)
        value = data[at + 8 : at + 8 + length]
        if group != 0 or len(value) != length:
            raise MalformedError("the command set is not one")
        if element in _NUMBERS:
            if length != 2:
                raise MalformedError("a number of the command set has a wrong length")
            found[element] = int.from_bytes(value, "little")
        elif element in _TEXTS:
            found[element] = _text(value)
        at += 8 + length
    return found


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise MalformedError("an item is too short")
        kind, _, length = struct.unpack_from(">BBH", data, at)
        value = data[at + 4 : at + 4 + length]
        if len(value) != length:
            raise MalformedError("an item is longer than its PDU")
        yield kind, value
        at += 4 + length


def _text(data: bytes) -> str:
    return data.decode("ascii", errors="replace").strip("\0 ")


def _ascii(text: str) -> bytes:
    return text.encode("ascii", errors="replace")


def _item(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(data)) + data


def _pdu(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(data)) + data
