"""A child of `work` that does what nobody waits for, as `work` keeps it.

    wanted()? -> python -m MODULE < settings as JSON -> it ends by itself, or is ended

Rules
- There is one of a kind at a time, at the lowest priority, and none where nothing is wanted of it.
- It is started when it is asked for, and every LOOK_S, where something is wanted.
- One that ends with an error, or is killed, is started again after a pause that doubles up to
  LONGEST_S. One that runs for longer than LIMIT_S is ended: what it had in hand counts as tried.
- It computes with one thread. Several threads of a BLAS wait for each other by turning in a loop,
  and at the lowest priority beside other work that took 44 s where one thread took 10 s.
- It ends with `work`, whatever ends that.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from appliance.runtime.engine_build import polite
from appliance.settings import Settings

log = logging.getLogger("scanside.work")

LOOK_S = 60.0
SHORTEST_S, LONGEST_S = 5.0, 300.0
LIMIT_S = 1800.0
"""Of all that is wanted: one thing takes some seconds on two cores, and the lowest priority may get
a tenth of one for a while."""
END_S = 5.0
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Child:
    """The child of one state folder that does one thing."""

    def __init__(
        self,
        settings: Settings,
        module: str,
        what: str,
        wanted: Callable[[], bool] | None,
    ) -> None:
        """what: what it does, such as "composing". wanted: whether there is something to do; None:
        never."""
        self._settings = settings
        self._module = module
        self._what = what
        self._wanted = wanted
        self._child: subprocess.Popen[bytes] | None = None
        self._look_at = math.inf if wanted is None else 0.0
        self._until = math.inf
        self._ahead = False
        self._interrupted = False
        self.failures = 0
        """How often in a row it did not end by itself, or could not be started."""

    @property
    def pid(self) -> int | None:
        """Of the child; None where none is running."""
        child = self._child
        return None if child is None or child.poll() is not None else child.pid

    def ask(self, *, ahead: bool = False) -> None:
        """There may be something to do. ahead: there will be soon, so it may start before that."""
        if self._wanted is not None and not self.failures:
            self._look_at = 0.0
            self._ahead = self._ahead or ahead

    def interrupt(self) -> bool:
        """End it for something else, which is no failure; whether it was running. Waits for
        nothing: at the lowest priority even to end may take a while."""
        if self._child is None or self._child.poll() is not None:
            return False
        self._child.terminate()
        self._interrupted = True
        return True

    def turn(self) -> None:
        """Start it where there is something to do, and see how it ended. Waits for nothing."""
        now = time.monotonic()
        if self._child is not None:
            if self._child.poll() is None and now >= self._until:
                log.error("%s took more than %.0f s and is ended", self._what, LIMIT_S)
                self._child.kill()
                self._child.wait()
            if self._child.poll() is None:
                return
            self._ended(self._child.returncode, now)
        if self._wanted is not None and now >= self._look_at:
            self._look_at = now + LOOK_S
            ahead, self._ahead = self._ahead, False
            if ahead or self._wanted():
                self._start(now)

    def stop(self) -> None:
        """End it: what it had not finished is done at the next start."""
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
                    polite([sys.executable, "-m", self._module]),
                    env={**os.environ, **ONE_THREAD},
                    stdin=settings,
                    stdout=subprocess.DEVNULL,
                )
        except OSError as e:  # no memory for a process, or no room for a file
            self._failed(f"{self._what} cannot be started: {e.strerror}", now)
        self._until = now + LIMIT_S

    def _ended(self, code: int, now: float) -> None:
        self._child, self._ahead = None, False
        interrupted, self._interrupted = self._interrupted, False
        if code == 0 or interrupted:
            self.failures = 0
        else:
            self._failed(f"{self._what} ended with {code}", now)

    def _failed(self, how: str, now: float) -> None:
        self.failures += 1
        pause = min(LONGEST_S, SHORTEST_S * 2.0 ** min(self.failures - 1, 16))
        self._look_at = now + pause
        log.warning("%s; again in %.0f s", how, pause)
