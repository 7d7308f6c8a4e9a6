"""The doorbell of the publish stage: one datagram says that something is owed.

A bell never fails: a lost one costs at most one tick of the stage that listens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from appliance.errors import StateUnusable

SOCKET = Path("run/publish.sock")


def wake(state: Path) -> None:
    """Tell the publish stage that something is owed. Errors are ignored: the tick covers them."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.setblocking(False)
        sender.sendto(b"\n", str(state / SOCKET))


class Bell:
    """The receiving end of `wake`. Held by one publish stage at a time (flock)."""

    def __init__(self, state: Path) -> None:
        path = state / SOCKET
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(
                path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as e:
            raise StateUnusable(f"{path.parent}: {e.strerror}") from e
        self.socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            self.socket.bind(str(path))
            path.chmod(0o600)
        except BlockingIOError as e:
            self.close()
            raise StateUnusable(
                f"{path}: another publish stage serves this state folder",
                remedy="Stop the other `scanside publish` or `scanside run` first.",
                code="already_running",
            ) from e
        except OSError as e:
            self.close()
            raise StateUnusable(
                f"{path}: {e.strerror or e}",
                remedy="Set `state` to a folder that is writable and whose path is short "
                "(a unix socket's path has at most 107 bytes).",
            ) from e

    def drain(self) -> bool:
        """Take what rang; whether anything did."""
        rang = False
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(64)
                rang = True
        return rang

    def close(self) -> None:
        self.socket.close()
        os.close(self._lock)
