"""One stage as a child process: started, started again when it ends, and stopped.

    start --> starting --READY--> ready
                 |                  |      ends by itself
                 +---> failed <-----+      (its pause, then starting again)
    stop  --> stopping --> gone

Rules
- One that ends by itself is started again, slower each time (1 s doubling to 30 s; from the first
  again after 60 s of life). One that ends with 0 wanted to: it begins again after 1 s.
- One that does not say READY within its time, and one that does not end within its time, is killed.
- Nothing here waits: the parent has one thread, and calls `turn`.
- A child of a slot runs that slot's Python, with the environment of its slot; the next `receive` is
  handed the socket that the parent holds (sd_listen_fds(3)): no connection is refused meanwhile.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.store import trial
from appliance.store.instance import SLOT
from appliance.update.units import CONTROL, PLAIN, UnitState, start_s, stop_s

log = logging.getLogger("scanside.run")

RESTART_MAX_S: Final = 30.0
LASTED_S: Final = 60.0
LISTEN_FD: Final = 3  # sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class Family:
    """What all children of one parent have in common."""

    folder: Path
    """For their notify sockets, and control/."""
    state: Path
    config: Path | None
    python: Callable[[str, int], str]
    """(stage, slot) -> the program that runs it."""
    environment: Callable[[str, int], Mapping[str, str]]
    """(stage, slot) -> what it gets beside the parent's own environment."""
    listening: socket.socket | None = None
    """The DICOM socket that the parent holds, where there are slots."""


@dataclass
class Child:
    """One stage of one slot (0 without slots)."""

    name: str
    slot: int
    family: Family
    notify: socket.socket
    notify_path: str
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    failures: int = 0
    ends: int = 0
    """How often it ended without being asked to."""
    started: float = 0.0
    start_at: float = field(default=0.0)
    kill_at: float | None = None
    """It was asked to end; killed from then on."""
    clean: bool = True
    """Whether it ended well each time it was asked to."""
    wanted: bool = True
    """Whether it begins again once it has ended."""

    @classmethod
    def of(cls, name: str, slot: int, family: Family) -> Child:
        """Not started yet: `turn` does."""
        path = str(family.folder / (f"{name}@{slot}.notify" if slot else f"{name}.notify"))
        with suppress(FileNotFoundError):
            os.unlink(path)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(path)
        notify.setblocking(False)
        return cls(name, slot, family, notify, path)

    def __str__(self) -> str:
        return f"{self.name} of slot {self.slot}" if self.slot else self.name

    @property
    def gone(self) -> bool:
        """It has ended, and nobody wants it."""
        return self.process is None and not self.wanted

    @property
    def state(self) -> UnitState:
        """In the words of `appliance.update.units`."""
        if self.gone:
            return "absent"
        if self.kill_at is not None:
            return "stopping"
        if self.process is None:
            return "failed" if self.ends else "starting"
        return "ready" if self.ready else "starting"

    def turn(self, now: float) -> None:
        """What is due at this tick: note an end, start it again, cut what lasts too long."""
        if self.process is not None and (code := self.process.poll()) is not None:
            self._ended(code, now)
        if self.gone:
            return
        if self.kill_at is not None:
            if now >= self.kill_at:
                log.error("%s did not stop in time and is killed", self)
                self.kill()
        elif self.process is None:
            if now >= self.start_at:
                self._start(now)
        elif not self.ready and now - self.started > start_s(self.name):
            log.error("%s did not say READY in time and is killed", self)
            self.kill()

    def want(self) -> None:
        """It shall live: one that is just being stopped begins again when it has ended."""
        self.wanted = True

    def hear(self) -> None:
        """Take what it says on its notify socket (sd_notify(3))."""
        with suppress(BlockingIOError):
            while message := self.notify.recv(4096):
                self.ready |= b"READY=1" in message.split(b"\n")

    def stop(self, now: float) -> None:
        """Ask it to end; `turn` sees when it has."""
        self.wanted, self.start_at = False, now
        if self.process is not None and self.kill_at is None:
            self.kill_at = now + stop_s(self.name)
            self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()

    def close(self) -> None:
        """Leave nothing behind, whatever it does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.notify.close()
        with suppress(FileNotFoundError):
            os.unlink(self.notify_path)

    def _ended(self, code: int, now: float) -> None:
        self.process = None
        was_ready, self.ready = self.ready, False
        if self.kill_at is not None:
            self.kill_at, self.start_at = None, now
            if code != 0 and (was_ready or code != -signal.SIGTERM):
                log.error("%s ended with %s when it was told to stop", self, code)
                self.clean = False
            return
        self.ends += 1
        self.failures = 1 if code == 0 or now - self.started > LASTED_S else self.failures + 1
        self.start_at = now + min(RESTART_MAX_S, 2.0 ** (self.failures - 1))
        log.error("%s ended with %s; next start in %.0f s", self, code, self.start_at - now)

    def _start(self, now: float) -> None:
        family = self.family
        command = [family.python(self.name, self.slot), "-m", "appliance", self.name]
        if family.config is not None:
            command += ["--config", str(family.config)]
        extra = {"NOTIFY_SOCKET": self.notify_path, **family.environment(self.name, self.slot)}
        handed = family.listening if self.name == "receive" else None
        self.started = now
        if trial.on_trial(extra):
            trial.note_start(family.state, self.name, self.slot)
        try:
            self.process = subprocess.Popen(
                command,
                pass_fds=() if handed is None else (LISTEN_FD,),
                preexec_fn=lambda: _become(extra, handed),  # noqa: PLW1509 - one thread here
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops all in order
            )
        except (OSError, subprocess.SubprocessError) as e:
            log.error("%s: %s", command[0], e)
            self.process, self.ends, self.failures = None, self.ends + 1, self.failures + 1
            self.start_at = now + min(RESTART_MAX_S, 2.0 ** (self.failures - 1))


def own_python(_stage: str, _slot: int) -> str:
    """Without slots all run what runs the parent."""
    return sys.executable


def nothing_more(_stage: str, _slot: int) -> Mapping[str, str]:
    """Without slots no child needs more than the parent has."""
    return {}


def of_a_slot(stage: str, slot: int, control: Path, file: Path) -> dict[str, str]:
    """What a child of this slot gets. `file` is the EnvironmentFile of the slot's units, lines
    NAME=VALUE (systemd.exec(5)); it may be missing."""
    said = {SLOT: str(slot)}
    with suppress(OSError):
        lines = file.read_text(encoding="utf-8").splitlines()
        said |= dict(line.split("=", 1) for line in lines if "=" in line and line[0] not in "#;")
    return {**said, CONTROL: str(control)} if stage in PLAIN else said


def keep_free(listening: socket.socket) -> None:
    """Descriptor 3 is taken in this process, so that no pipe of a start gets its number."""
    try:
        os.fstat(LISTEN_FD)
    except OSError:
        os.dup2(listening.fileno(), LISTEN_FD, inheritable=False)


def _become(extra: Mapping[str, str], handed: socket.socket | None) -> None:
    """In the child: SIGTERM when the parent dies without a word (PR_SET_PDEATHSIG, prctl(2)), and
    its environment, to which its own process id belongs."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    os.environ.update(extra)
    if handed is not None:
        if handed.fileno() == LISTEN_FD:
            os.set_inheritable(LISTEN_FD, True)
        else:
            os.dup2(handed.fileno(), LISTEN_FD)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
