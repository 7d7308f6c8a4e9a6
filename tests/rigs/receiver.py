"""`receive` as a real child process, and a peer that may break the rules."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from appliance.report import SeriesKey
from appliance.store.events import E
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from rigs.peers import until

PROGRAM = """
import logging, pathlib, sys
logging.basicConfig(level=logging.INFO)
from appliance.receive.stage import main
from appliance.settings import load
sys.exit(main(load(pathlib.Path(sys.argv[1]))))
"""
ALLOW = '[[dicom.allow]]\nae_title = "CT1"\nhost = "127.0.0.1"\n'


@dataclass
class Receiver:
    """A running `receive` and what it keeps."""

    config: Path
    state: Path
    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0
    keys: list[SeriesKey] = field(default_factory=list)

    def start(self) -> None:
        port_file = self.state / "run" / "receive.port"
        port_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self.config)],
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not port_file.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.port = int(port_file.read_text())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the whole group, as a service manager does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        return self.process.wait(60)

    def stored(self) -> dict[str, Path]:
        """SOP Instance UID -> file, of everything in the spool."""
        spool = Spool(self.state)
        return {uid: path for key in spool.series() for uid, path in spool.instances(key).items()}

    def journal(self) -> Journal:
        return Journal.open(self.state)

    def outcomes(self, count: int) -> list[str | None]:
        """How the associations ended, once `count` have."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with self.journal() as journal:
                rows = journal._db._db.execute(  # the API has no list of ended ones
                    "SELECT outcome FROM associations WHERE ended IS NOT NULL ORDER BY ended"
                ).fetchall()
            if len(rows) >= count:
                break
            time.sleep(0.02)
        return [r[0] for r in rows]

    def until_no_association_is_open(self) -> None:
        """An archive may keep one for seconds after its last image, and its end is a row too."""

        def none_is() -> bool:
            with self.journal() as journal:
                (count,) = journal._db._db.execute(
                    "SELECT count(*) FROM associations WHERE ended IS NULL"
                ).fetchone()
            return bool(count == 0)

        until(none_is)

    def events(self, kind: type[E]) -> list[E]:
        """The newest first."""
        with self.journal() as journal:
            return [one.event for one in journal.events.of(kind)]


def item(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(data)) + data


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


class RawScu:
    """A peer made by hand, so that it can say what no library lets through."""

    def __init__(
        self,
        port: int,
        abstract: bytes = CTImageStorage.encode(),
        transfer: bytes = ExplicitVRLittleEndian.encode(),
        *,
        calling: bytes = b"CT1",
        version: int = 1,
        application: bytes = b"1.2.840.10008.3.1.1.1",
        max_length: int = 16384,
        user: bytes = b"",
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = b"\x01\0\0\0" + item(0x30, abstract) + item(0x40, transfer)
        body = (
            struct.pack(">HH", version, 0)
            + b"SCANSIDE".ljust(16)
            + calling.ljust(16)
            + bytes(32)
            + item(0x10, application)
            + item(0x20, context)
            + item(0x99, b"an item of the future")
            + item(0x50, item(0x51, struct.pack(">I", max_length)) + item(0x52, b"1.2.3") + user)
        )
        self.send(1, body)
        self.answer = self.pdu()

    def send(self, kind: int, body: bytes) -> None:
        self.socket.sendall(struct.pack(">BBI", kind, 0, len(body)) + body)

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU's type and body; type 0 where the connection is closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                break
            data += piece
        return data

    def command(self, field: int, sop_class: bytes, sop: bytes = b"", data: bool = True) -> None:
        body = element(0x0002, sop_class) + element(0x0100, struct.pack("<H", field))
        body += element(0x0110, struct.pack("<H", 7))
        body += element(0x0800, struct.pack("<H", 0x0001 if data else 0x0101))
        body += element(0x1000, sop) if sop else b""
        body = element(0x0000, struct.pack("<I", len(body))) + body
        self.value(body, control=3)

    def value(self, data: bytes, *, control: int, context: int = 1) -> None:
        self.send(4, struct.pack(">IBB", len(data) + 2, context, control) + data)

    def store(self, sop: bytes, data: bytes, sop_class: bytes = CTImageStorage.encode()) -> int:
        """One C-STORE; the status."""
        self.command(0x0001, sop_class, sop)
        for at in range(0, max(len(data), 1), 8192):
            last = at + 8192 >= len(data)
            self.value(data[at : at + 8192], control=2 if last else 0)
        return self.status()

    def status(self) -> int:
        kind, body = self.pdu()
        assert kind == 4, kind
        at = body.index(struct.pack("<HHI", 0, 0x0900, 2)) + 8
        return int.from_bytes(body[at : at + 2], "little")

    def release(self) -> None:
        self.send(5, bytes(4))
        assert self.pdu()[0] == 6
        self.socket.close()


StartReceiver = Callable[..., Receiver]
"""(dicom="", more=ALLOW) -> a running receiver with these lines in its settings."""
MakeImage = Callable[..., Dataset]
"""(n, size=..., **tags) -> CT slice number n with its own pixels."""
