"""The doorbell: a datagram on run/<stage>.sock wakes a stage, and may say what there is to do.

Rules
- To ring never fails and never waits. A lost ring costs at most one tick of the stage that hears:
  the journal and the spool hold what there is to do, a ring only says when to look.
- Only the stage itself and its user's processes may ring: the socket has mode 0600.
- A socket holds a bounded number of rings (net.unix.max_dgram_qlen). Who hears `QUEUE` of them at
  once must expect that others were lost.
- A socket that a killed stage left behind is replaced: `lock.alone` keeps two living ones apart.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import StateUnusable

QUEUE = 10
"""A socket holds at least so many rings before it loses one."""
_LARGEST = 4096
COMPARE = "compare"
"""Who hears it is no stage, but the child of `work` that compares."""


def ring(state: Path, stage: str, payload: bytes = b"\n") -> None:
    """Wake a stage of this state folder. Nobody there, or a full queue, is no error."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.setblocking(False)
        sender.sendto(payload, str(_path(state, stage)))


@contextlib.contextmanager
def hearing(state: Path, stage: str) -> Iterator[socket.socket]:
    """The socket on which `stage` hears; select(2) it, then `take`. The folder run/ must exist.

    StateUnusable with a remedy where the path is too long for a socket or cannot be written.
    """
    path = _path(state, stage)
    with socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    ) as rung:
        try:
            path.unlink(missing_ok=True)
            rung.bind(str(path))
            path.chmod(0o600)
        except OSError as e:
            raise StateUnusable(
                f"{path}: {e.strerror or e}",
                remedy="Set `state` to a folder that is writable and whose path is short "
                "(a unix socket's path has at most 107 bytes).",
            ) from e
        yield rung


def take(rung: socket.socket) -> list[bytes]:
    """Every ring that waits, in order; nothing where nobody rang."""
    payloads = []
    with contextlib.suppress(BlockingIOError):
        while True:
            payloads.append(rung.recv(_LARGEST, socket.MSG_DONTWAIT))
    return payloads


def _path(state: Path, stage: str) -> Path:
    return state / "run" / f"{stage}.sock"
