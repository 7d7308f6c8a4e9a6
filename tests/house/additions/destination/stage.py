"""The drop stage: what the outbox owes to the folder becomes files there, in order.

Rules
- Delivered means that the file is durable under its name, which begins with its place in the
  outbox. So names in order are bodies in order, and what is written twice is one file.
- The oldest that waits is the first. While it is refused for now, the others wait behind it: 1 to
  30 s of growing, jittered pauses. A folder that is missing is a mount that is away, and is not
  made.
- What can never be a file (its name is too long, its body is elsewhere) is dead, and so is what may
  not be written ten times; the rest goes on.
- One thread. It sleeps in `select` until a datagram on run/drop.sock says that something is owed,
  or the 5 s tick is due, which also covers a lost datagram.
"""

from __future__ import annotations

import errno
import logging
import random
import select
import socket
import time
from collections.abc import Callable

from appliance.errors import StateUnusable
from appliance.host import notify
from appliance.results.folder import FOLDER
from appliance.runtime import serving
from appliance.settings import Settings
from appliance.store import bell
from appliance.store.delivery import Event
from appliance.store.files import DISK, Disk
from appliance.store.heartbeat import Heart
from appliance.store.journal import Journal
from appliance.store.patience import Fault, Patience
from appliance.store.rows import OwedRow

log = logging.getLogger(__name__)

STAGE = "drop"
PATIENCE = Patience(shortest_s=1.0, longest_s=30.0, refusals=10)
TICK_S = 5.0
AT_ONCE = 20
"""Bodies that are read from the journal together."""
FAULTS = {
    errno.ENAMETOOLONG: Fault.OWN,
    errno.EACCES: Fault.FORBIDDEN,
    errno.EPERM: Fault.FORBIDDEN,
}
"""Whose fault an error of the folder is; all others pass: away, full or broken."""


class Drop:
    """The stage: writes what is owed, oldest first."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        heard: socket.socket,
        heart: Heart,
        *,
        patience: Patience = PATIENCE,
        draw: Callable[[], float] = random.random,
        disk: Disk = DISK,
    ) -> None:
        self._state = settings.state
        self._folder = settings.drop.folder or settings.state / STAGE
        self._journal = journal
        self._heard = heard
        self._heart = heart
        self._patience = patience
        self._draw = draw
        self._disk = disk
        self._attempt = 0
        self._not_before = 0.0
        self._stopping = False

    def stop(self) -> None:
        """End at the next turn of the loop. May be called from a signal handler or a thread."""
        self._stopping = True
        bell.ring(self._state, STAGE)

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            if time.monotonic() >= self._not_before:
                self._write_all()
            self._heart.beat()
            pause_s = max(0.0, self._not_before - time.monotonic())
            select.select([self._heard], [], [], min(TICK_S, pause_s or TICK_S))
            bell.take(self._heard)

    def _write_all(self) -> None:
        """All that waits, or up to the first that is refused for now."""
        while rows := self._journal.owed.waiting(FOLDER, AT_ONCE):
            for row in rows:
                if self._stopping:
                    return
                if not self._write(row):
                    self._attempt += 1
                    pause_s = self._patience.pause_s(self._attempt, self._draw)
                    self._not_before = time.monotonic() + pause_s
                    return

    def _write(self, row: OwedRow) -> bool:
        """One body; False where it is to be tried again later."""
        if row.body is None:
            self._journal.owed.never(FOLDER, row.key, "its body is no document")
            return True
        try:
            self._disk.write(self._folder / f"{row.id:010d}.{row.key}.json", row.body)
        except (StateUnusable, FileNotFoundError) as e:
            return self._refused(row.key, e)
        self._journal.owed.ack(FOLDER, [row.key])
        self._attempt = 0
        return True

    def _refused(self, key: str, error: StateUnusable | FileNotFoundError) -> bool:
        """Bury what is at fault, else count; whether the next one may be tried at once."""
        cause = error if isinstance(error, OSError) else error.__cause__
        fault = Fault.PASSING
        if isinstance(cause, OSError) and cause.errno is not None:
            fault = FAULTS.get(cause.errno, Fault.PASSING)
        why = f"{self._folder}: {getattr(cause, 'strerror', None) or error}"
        log.warning("%s refused: %s", key, why)
        refused = 0 if fault is Fault.OWN else self._journal.owed.later(FOLDER, key, why)
        if self._patience.verdict(fault, refused) is Event.NEVER:
            self._journal.owed.never(FOLDER, key, why)
            return True
        return False


def main(settings: Settings, ready: Callable[[], object] = notify.ready) -> int:
    """`scanside drop`: serve until SIGTERM or SIGINT; 0 after a clean stop."""
    DISK.make_folder(settings.state)
    if settings.drop.folder is None:
        DISK.make_folder(settings.state / STAGE)
    return serving.serve(settings, STAGE, Drop, ready)
