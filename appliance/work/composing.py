"""The child that composes objects for archives (appliance/compose/child.py), as `work` keeps it.

Rules
- There is one at a time, at the lowest priority, and none where no archive is owed anything.
- What is ordered for an archive that the settings do not name any more is composed too: images must
  not wait for it, and who names it again gets it.
- It is started when a report is committed, and every LOOK_S, where something is ordered and not
  composed. Nobody waits for it: the next report goes on while it runs.
- One that ends with an error, or is killed, is started again after a pause that doubles up to
  LONGEST_S. One that runs for longer than LIMIT_S is ended: what it had in hand counts as tried.
- It ends with `work`, whatever ends that.
"""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import tempfile
import time

from appliance.results import destinations
from appliance.runtime.engine_build import polite
from appliance.settings import Settings
from appliance.store.journal import Journal

log = logging.getLogger("scanside.work")

MODULE = "appliance.compose.child"
LOOK_S = 60.0
SHORTEST_S, LONGEST_S = 5.0, 300.0
LIMIT_S = 1800.0
"""Of all that is ordered: a report takes some seconds on two cores, and the lowest priority may get
a tenth of one for a while."""
END_S = 5.0


class Composing:
    """The child of one state folder."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._names = destinations.composed_for(journal.owed.destinations(), settings.deliver)
        self._child: subprocess.Popen[bytes] | None = None
        self._look_at = 0.0 if self._names else math.inf
        self._until = math.inf
        self.failures = 0
        """How often in a row it did not end by itself, or could not be started."""

    @property
    def pid(self) -> int | None:
        """Of the child; None where none is running."""
        child = self._child
        return None if child is None or child.poll() is not None else child.pid

    def ask(self) -> None:
        """Something may have been ordered."""
        if self._names and not self.failures:
            self._look_at = 0.0

    def turn(self) -> None:
        """Start it where there is something to compose, and see how it ended. Waits for nothing."""
        now = time.monotonic()
        if self._child is not None:
            if self._child.poll() is None and now >= self._until:
                log.error("composing took more than %.0f s and is ended", LIMIT_S)
                self._child.kill()
                self._child.wait()
            if self._child.poll() is None:
                return
            self._ended(self._child.returncode, now)
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            if self._journal.owed.uncomposed(self._names, 1):
                self._start(now)

    def stop(self) -> None:
        """End it: what it had not finished is composed at the next start."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(END_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def _start(self, now: float) -> None:
        try:
            with tempfile.TemporaryFile() as settings:
                settings.write(self._settings.model_dump_json().encode())
                settings.seek(0)
                self._child = subprocess.Popen(
                    polite([sys.executable, "-m", MODULE]),
                    stdin=settings,
                    stdout=subprocess.DEVNULL,
                )
        except OSError as e:  # no memory for a process, or no room for a file
            self._failed(f"composing cannot be started: {e.strerror}", now)
        self._until = now + LIMIT_S

    def _ended(self, code: int, now: float) -> None:
        self._child = None
        if code == 0:
            self.failures = 0
        else:
            self._failed(f"composing ended with {code}", now)

    def _failed(self, how: str, now: float) -> None:
        self.failures += 1
        pause = min(LONGEST_S, SHORTEST_S * 2.0 ** min(self.failures - 1, 16))
        self._look_at = now + pause
        log.warning("%s; again in %.0f s", how, pause)
