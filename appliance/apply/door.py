"""The socket on which `apply` is asked: who may, how much, and for how long.

Rules.
1. The kernel says who is at the other end (SO_PEERCRED, unix(7)), not the line that he sends: root,
   the user of `apply` itself, and members of the group scanside-admin may ask; anybody may ask for
   the status, which is no secret of this machine.
2. MOST_CONNECTIONS at a time, one line of at most MOST_BYTES each, within WITHIN_S. Who is slower
   or longer is left, without an answer.
3. systemd passes the socket on (sd_listen_fds(3)), whose rights then keep others out already.
   Without it the socket is made in the trusted folder, for its user and group alone.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import pwd
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.apply.requests import Answer, Request, Requests
from appliance.errors import StateUnusable

LOG = logging.getLogger(__name__)
GROUP = "scanside-admin"
SOCKET = "socket"
SYSTEMD_SOCKET = Path("/run/scanside-apply/socket")
MOST_CONNECTIONS, MOST_BYTES, WITHIN_S = 16, 65_536, 10.0
_UCRED = struct.Struct("3i")
_FIRST_PASSED = 3


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end."""

    pid: int
    uid: int
    gid: int

    def name(self) -> str:
        """For the audit; a uid of a container may have none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"

    def may(self) -> bool:
        """Rule 1."""
        if self.uid in (0, os.geteuid()):
            return True
        try:
            group = grp.getgrnam(GROUP)
        except KeyError:
            return False
        with contextlib.suppress(KeyError):
            if pwd.getpwuid(self.uid).pw_name in group.gr_mem:
                return True
        return self.gid == group.gr_gid


def peer_of(connection: socket.socket) -> Peer:
    """Whom the kernel has seen to connect."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(data))


@contextlib.contextmanager
def opened(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[socket.socket]:
    """The socket that listens: systemd's, else one in `folder`. StateUnusable."""
    environ = os.environ if environ is None else environ
    if environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS") == "1":
        with socket.socket(fileno=_FIRST_PASSED) as listening:
            yield listening
        return
    path = folder / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            path.unlink(missing_ok=True)
            before = os.umask(0o117)  # from its first moment on
            try:
                listening.bind(str(path))
            finally:
                os.umask(before)
            with contextlib.suppress(KeyError, PermissionError):
                os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
            listening.listen(MOST_CONNECTIONS)
        except OSError as e:
            raise StateUnusable(f"{path}: {e.strerror}", code="update_socket") from e
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)


class Door:
    """Serves one socket by a thread a connection, until `close`."""

    def __init__(self, listening: socket.socket, requests: Requests) -> None:
        self._listening = listening
        self._requests = requests
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="door", daemon=True)

    def open(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Take nobody any more. Who is being answered is answered."""
        self._wake.send(b"!")  # the socket itself may be systemd's, and outlives this process
        self._thread.join(WITHIN_S)

    def _serve(self) -> None:
        while True:
            found, _, _ = select.select([self._listening, self._woken], [], [])
            if self._woken in found:
                return
            connection, _ = self._listening.accept()
            if not self._places.acquire(blocking=False):
                connection.close()  # rule 2
                continue
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                line = _line(connection)
                if line is not None:
                    connection.settimeout(WITHIN_S)
                    answer = self._answered(line, peer_of(connection))
                    connection.sendall(answer.model_dump_json(by_alias=True).encode() + b"\n")
        except Exception:
            LOG.exception("a request could not be answered")
        finally:
            self._places.release()

    def _answered(self, line: bytes, peer: Peer) -> Answer:
        if not peer.may() and not _asks_for_status(line):
            LOG.warning("%s asked, who is not in the group %s", peer.name(), GROUP)
            return Answer(
                ok=False,
                code="update_not_permitted",
                text=f"{peer.name()} may not change updates here",
                remedy=f"Type it with sudo, or: sudo adduser {peer.name()} {GROUP}",
            )
        return self._requests.answer(line, f"{peer.name()}@socket")


def _asks_for_status(line: bytes) -> bool:
    with contextlib.suppress(ValueError):
        return Request.model_validate_json(line).verb == "status"
    return False


def _line(connection: socket.socket) -> bytes | None:
    """One line; None where it is none, too long, or too slow (rule 2)."""
    data, end = b"", time.monotonic() + WITHIN_S
    while not data.endswith(b"\n"):
        connection.settimeout(max(0.001, end - time.monotonic()))
        piece = connection.recv(4096)
        data += piece
        if not piece or len(data) > MOST_BYTES:
            return None
    return data


def ask(path: Path, request: Request, within_s: float = WITHIN_S) -> Answer:
    """Be the other end. OSError where nobody serves there, or answers within this time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(within_s)
        connection.connect(str(path))
        connection.sendall(request.model_dump_json(exclude_none=True).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            piece = connection.recv(65_536)
            if not piece:
                break
            data += piece
        return Answer.stored(data)
