"""What an association costs: how many a second, and the memory of `receive` at rest and at work.

    python -m bench.associations

Rules
- One association is connect, A-ASSOCIATE, C-ECHO, A-RELEASE, close, one after another, by a peer
  that is only prepared bytes on a socket (PS3.8 9.3, PS3.7 9.1.5): its own time hardly counts.
- Memory is the proportional set size (proc(5), smaps_rollup: shared pages counted once in all)
  summed over the listening process and its children.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.dicom import pdu
from appliance.dicom.policy import APPLICATION_CONTEXT, VERIFICATION
from bench import receivers
from bench.figure import Figure
from bench.receive import STORESCU, made, senders
from bench.receivers import Start

SECONDS = 5.0
SAMPLE_S = 0.05
IMPLICIT_LE = "1.2.840.10008.1.2"


def figures() -> Iterator[Figure]:
    """Associations a second of each receiver; then the memory of ours."""
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        root = Path(name)
        for receiver, start in {"scanside receive": receivers.ours, **receivers.peers()}.items():
            yield Figure(f"associations with C-ECHO, {receiver}", _rate(root, start), "/s")
        if Path(STORESCU).exists():
            yield from _memory(root)


def _rate(root: Path, start: Start) -> float:
    with start(Path(tempfile.mkdtemp(dir=root))) as running:
        _associate(running.port)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            _associate(running.port)
            count += 1
        return count / (time.perf_counter() - began)


def _memory(root: Path) -> Iterator[Figure]:
    files = made(root / "files", 4)
    with receivers.ours(Path(tempfile.mkdtemp(dir=root))) as running:
        time.sleep(1.0)
        yield Figure("PSS of receive, idle", _pss_mb(running.pid), "MB")
        most = 0.0
        processes = senders(running.port, files)
        while any(process.poll() is None for process in processes):
            most = max(most, _pss_mb(running.pid))
            time.sleep(SAMPLE_S)
        yield Figure("PSS of receive, peak of four senders", most, "MB")


def _pss_mb(pid: int) -> float:
    """Of a process and its children, in 10^6 bytes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    total = 0
    for one in (str(pid), *children):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for line in Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total / 1e6


def _associate(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for message, answer in ((_REQUEST, 0x02), (_ECHO, 0x04), (_RELEASE, 0x06)):
            connection.sendall(message)
            kind, length = struct.unpack(">BxI", _exactly(connection, 6))
            _exactly(connection, length)
            if kind != answer:
                raise SystemExit(f"PDU {kind} where {answer} was due")


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise SystemExit("the receiver closed the connection")
        data += piece
    return data


def _item(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(data)) + data


def _pdu(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(data)) + data


def _request() -> bytes:
    """A-ASSOCIATE-RQ with one context: Verification (PS3.8 9.3.2)."""
    context = _item(0x30, VERIFICATION.encode()) + _item(0x40, IMPLICIT_LE.encode())
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3")
    return _pdu(
        0x01,
        struct.pack(">HH", 1, 0)
        + b"SCANSIDE".ljust(16)
        + b"BENCH".ljust(16)
        + bytes(32)
        + _item(0x10, APPLICATION_CONTEXT.encode())
        + _item(0x20, bytes((1, 0, 0, 0)) + context)
        + _item(0x50, user),
    )


_REQUEST = _request()
_ECHO = pdu.command_pdu(
    1,
    {
        pdu.SOP_CLASS: VERIFICATION,
        pdu.FIELD: pdu.C_ECHO_RQ,
        pdu.MESSAGE_ID: 1,
        pdu.DATA_SET_TYPE: pdu.NO_DATA_SET,
    },
)
_RELEASE = _pdu(0x05, bytes(4))


if __name__ == "__main__":
    for figure in figures():
        print(figure.one_line(), flush=True)
