"""The socket by which `receive` wakes `work`: where to look, and that an association has ended.

A hint is a datagram of JSON and no more than a hint: what is lost or none of ours costs nothing.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select as wait_for_input

from appliance.errors import InstanceRefused, StateUnusable
from appliance.store.spool import SeriesKey, checked_uid

log = logging.getLogger("scanside.work")

QUEUE = 10
"""A socket holds at least so many hints (net.unix.max_dgram_qlen) before it loses one."""


@dataclass(frozen=True)
class Hints:
    """What one sleep ended with."""

    keys: frozenset[SeriesKey] = frozenset()
    ended: bool = False
    """An association has."""
    full: bool = False
    """As many hints waited as the socket holds: others may be lost."""


@contextmanager
def ear(path: Path) -> Iterator[socket.socket]:
    """Where hints come in; what a killed stage left there is replaced."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hints:
        try:
            path.unlink(missing_ok=True)
            hints.bind(str(path))
            path.chmod(0o600)
        except OSError as e:
            raise StateUnusable(
                f"{path}: {e.strerror or e}",
                remedy="Set `state` to a folder that is writable and whose path is short "
                "(a unix socket's path has at most 107 bytes).",
            ) from e
        yield hints


def wait(hints: socket.socket, signals: socket.socket, wait_s: float) -> Hints:
    """Sleep until a hint, a signal or the deadline, then take every hint there is."""
    keys: set[SeriesKey] = set()
    taken, ended = 0, False
    if not wait_for_input([hints, signals], [], [], wait_s)[0]:
        return Hints()
    while True:
        try:
            data = hints.recv(4096, socket.MSG_DONTWAIT)
            taken += 1
            hint = json.loads(data)
            if "association" in hint:
                ended = True
            else:
                study, series = (checked_uid(hint[name], name) for name in ("study", "series"))
                keys.add(SeriesKey(study, series))
        except BlockingIOError:
            return Hints(frozenset(keys), ended=ended, full=taken >= QUEUE)
        except (ValueError, KeyError, TypeError, InstanceRefused):
            log.warning("a hint that is none was dropped")
