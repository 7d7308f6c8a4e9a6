"""A build of engines under way: child processes at the lowest priority, watched without waiting.

    python -m compile engine BUNDLE --target this -o FOLDER
    python -m compile compare BUNDLE --backends CPU,gpu --engines FOLDER     only then may it serve

Rules.
1. Each step is a process of its own, at nice 19 and idle disk priority: it never holds up a study,
   what it breaks breaks it alone, and it ends with the process that started it.
2. Nothing here waits: a thread reads what a child says, the last line is its progress, and `poll`
   says how it ended. `stop` ends it at any moment; the folder is then half built, which the engine
   shelf never serves.
3. A failure has the child's own code, text and remedy (its last line on stderr), or is named here:
   `engine_build_died` by a signal, `engine_build_slow` after LIMIT_S.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.errors import BackendUnavailable, ScansideError

LIMIT_S = 3600.0
"""Of all steps: TensorRT tries thousands of kernels, on an Orin for several minutes a network."""
END_S = 5.0
LINE = re.compile(r"(?P<text>.+) \[(?P<code>[a-z0-9_]+)\] (?P<remedy>.+)")
"""ScansideError.one_line()."""
POLITE: tuple[tuple[str, ...], ...] = (
    ("setpriv", "--pdeathsig", "KILL"),
    ("nice", "-n", "19"),
    ("ionice", "-t", "-c", "3"),
)
"""Programs that change the priority and become the next one: setpriv(1), nice(1), ionice(1)."""

Steps = Sequence[Sequence[str]]
Plan = Callable[[Path, Path], Steps]
"""(bundle, folder) -> the commands, one after the other."""


def plan(cpu: str) -> Plan:
    """The real one; `cpu` is the backend that the new engines are compared with."""
    python = [sys.executable, "-m", "compile"]
    return lambda bundle, folder: (
        [*python, "engine", str(bundle), "--target", "this", "-o", str(folder)],
        [*python, "compare", str(bundle), "--backends", f"{cpu},gpu", "--engines", str(folder)],
    )


def polite(command: Sequence[str]) -> list[str]:
    """A command behind what of POLITE is installed."""
    before = [word for words in POLITE if shutil.which(words[0]) for word in words]
    return [*before, *command]


class Build:
    """One build. It begins at once."""

    def __init__(self, steps: Steps, *, limit_s: float = LIMIT_S) -> None:
        self.progress = "begins"
        self._steps = steps
        self._limit_s = limit_s
        self._until = time.monotonic() + limit_s
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._error: ScansideError | None = None
        self._thread = threading.Thread(target=self._run, name="engine build", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def poll(self) -> ScansideError | None:
        """Why it failed; None while it runs and where it succeeded."""
        if self.running and time.monotonic() > self._until:
            self._error = BackendUnavailable(
                f"building engines took more than {self._limit_s:.0f} s",
                code="engine_build_slow",
                remedy="Let the machine rest, or build by hand: python -m compile engine.",
            )
            self.stop()
        return None if self.running else self._error

    def stop(self) -> None:
        """End it now."""
        with self._lock:
            self._stopped = True
            child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                child.kill()
        self._thread.join(END_S)

    def _run(self) -> None:
        for step in self._steps:
            with self._lock:
                if self._stopped:
                    return
                try:
                    self._child = subprocess.Popen(
                        polite(step),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                        errors="replace",
                    )
                except OSError as e:
                    self._error = _died(f"cannot be started: {e}")
                    return
            with self._child as child:
                error = self._follow(child)
            if error is not None:
                if not self._stopped:
                    self._error = error
                return

    def _follow(self, child: subprocess.Popen[str]) -> ScansideError | None:
        """Read a child to its end."""
        last: list[str] = []
        reader = threading.Thread(target=_tail, args=(child.stderr, last), daemon=True)
        reader.start()
        for line in child.stdout or ():
            if line.strip():
                self.progress = " ".join(line.split())[:200]
        code = child.wait()
        reader.join()
        if code == 0:
            return None
        found = LINE.fullmatch(last[-1]) if last else None
        if code < 0:
            return _died(f"was ended by {signal.Signals(-code).name}")
        if found is None:
            return _died(f"ended with {code}: {last[-1] if last else 'and said nothing'}")
        return BackendUnavailable(found["text"], code=found["code"], remedy=found["remedy"])


def _tail(lines: Sequence[str] | None, last: list[str]) -> None:
    """The last line that is not empty; the pipe is emptied whatever comes."""
    for line in lines or ():
        if line.strip():
            last[:] = [" ".join(line.split())[:500]]


def _died(how: str) -> BackendUnavailable:
    return BackendUnavailable(
        f"the builder of engines {how}",
        code="engine_build_died",
        remedy="If it was killed for memory, free memory and remove failed.json beside the "
        "engines; `python -m compile engine BUNDLE --target this` shows the whole output.",
    )
