"""What a stage says of itself while it runs: run/STAGE.beat, for `publish` and the doctor to read.

    {"stage", "pid", "boot", "began", "tick", "step", "since", "oldest",
     "troubles": [{code, text, remedy}]}

Rules
- Ticks are seconds of the monotonic clock (CLOCK_MONOTONIC of clock_gettime(2)): they tell ages
  within one boot, whatever is done to the clock of the day. A beat of another boot says nothing.
- A stage beats from the loop that does its work: at once when its step or troubles change, and at
  least every BEAT_S while it waits. Who does not beat any more is stuck or gone; which of both, its
  lock tells (`lock.is_held`). What follows from both is said in `conditions`.
- A beat is progress, so it also feeds the watchdog of systemd, and nothing else does; and while a
  release is on trial, it is what `guard` sees (store/trial.py).
- Not durable: a beat is about now. It appears whole or not at all. A disk that takes none is no
  error: the work goes on, and the last beat is removed, because an old one would tell a lie.
- A trouble is what a person must know although the stage goes on. Each code has one remedy.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from appliance.errors import StateUnusable
from appliance.host import notify
from appliance.host.boot import boot_id
from appliance.report import Record, Sentence
from appliance.store import instance, starts, trial
from appliance.store.files import DISK
from appliance.store.lock import alone

LEAST_S = 1.0
"""Between two beats that say the same."""
BEAT_S = 20.0
"""Longest sleep of a loop that has nothing to do, and is not on trial."""
START = "start"
"""The step of every stage until it serves."""


class TroubleCode(str, Enum):
    """What a stage may suffer from; it is also the reason of the status `degraded`."""

    ARCHIVE_AWAY = "archive_away"
    ASSOCIATIONS_FULL = "associations_full"
    BUNDLE_REFUSED = "bundle_refused"
    CLOCK_WRONG = "clock_wrong"
    JOURNAL_DAMAGED = "journal_damaged"
    PRIORS_AWAY = "priors_away"
    RECALLED = "recalled"


REMEDIES = MappingProxyType(
    {
        TroubleCode.ARCHIVE_AWAY: "Look whether the archive runs and lets us in: `scanside doctor` "
        "asks it and names the line of [[deliver]].",
        TroubleCode.ASSOCIATIONS_FULL: "Raise [dicom] max_associations or share, or find out which "
        "sender keeps its associations open.",
        TroubleCode.BUNDLE_REFUSED: "Install the bundle again (`scanside bundle add`), or go back "
        "with `scanside bundle rollback`.",
        TroubleCode.CLOCK_WRONG: "Set the clock of this device, and let it follow a time server of "
        "the hospital.",
        TroubleCode.JOURNAL_DAMAGED: "Look at what `scanside doctor` says of the journal, then "
        "confirm it.",
        TroubleCode.PRIORS_AWAY: "Look whether the archive of earlier exams runs and lets us in: "
        "`scanside doctor` asks it and names the line of [[priors.query]].",
        TroubleCode.RECALLED: "Install a newer release: `scanside update now`, or "
        "`scanside update now --from DIR` from a stick.",
    }
)


class Trouble(Record):
    """One of them, with the figure or the name that a person needs."""

    code: TroubleCode
    text: Sentence
    remedy: str


class Beat(Record):
    """What one stage said last."""

    stage: str
    pid: int
    boot: str
    began: float
    """Tick at which this process began to be the stage."""
    tick: float
    step: str = ""
    """What it does, such as `judge`; "" while it waits."""
    since: float
    """Tick at which this step began."""
    oldest: float | None = None
    """Tick at which the oldest of what waits for it came."""
    troubles: tuple[Trouble, ...] = ()


class Heart:
    """The beats of this process as `stage`."""

    def __init__(self, state: Path, stage: str, lock: int | None = None) -> None:
        self.lock = lock
        """The descriptor that holds the stage's lock: a child that outlives us must close it."""
        self._state = state
        self._path = state / "run" / f"{instance.name_of(stage)}.beat"
        self._stage = stage
        self._pulse = trial.Pulse(state, stage) if trial.on_trial() else None
        self._began = self._since = time.monotonic()
        self._step = ""
        self._oldest: float | None = None
        self._troubles: dict[TroubleCode, Trouble] = {}
        self._last: Beat | None = None
        self._fed = -math.inf
        self._lasted = False

    @property
    def sleep_s(self) -> float:
        """Longest sleep of a loop that has nothing to do."""
        watched = self._pulse is not None and self._pulse.goes_on
        return trial.SLEEP_S if watched else BEAT_S

    def beat(self, step: str = "", *, oldest: float | None = None) -> None:
        """The loop turns: at `step`, while the oldest of what waits came at the tick `oldest`."""
        now = time.monotonic()
        self._progress(now)
        self._oldest = oldest
        if step != self._step:
            self._step, self._since = step, now
        last = self._last
        troubles = tuple(self._troubles[code] for code in sorted(self._troubles))
        if (
            last is not None
            and now - last.tick < LEAST_S
            and (last.step, last.troubles) == (step, troubles)
        ):
            return
        self._last = Beat(
            stage=self._stage,
            pid=os.getpid(),
            boot=boot_id(),
            began=self._began,
            tick=now,
            step=step,
            since=self._since,
            oldest=oldest,
            troubles=troubles,
        )
        self._write(self._last.model_dump_json().encode())
        if self._pulse is not None and step != START:
            self._pulse.beat(step)

    def end(self) -> None:
        """It was asked to end, and does. A stage whose end may last says so before."""
        if self._pulse is not None:
            self._pulse.end()

    def go_on(self) -> None:
        """The same step makes progress."""
        self.beat(self._step, oldest=self._oldest)

    @contextlib.contextmanager
    def at(self, step: str) -> Iterator[None]:
        """While this runs the step is `step`; afterwards what it was before. A start stays one."""
        before = self._step
        step = before if before == START else step
        self.beat(step, oldest=self._oldest)
        try:
            yield
        finally:
            self.beat(before, oldest=self._oldest)

    def suffer(self, code: TroubleCode, text: str) -> None:
        """From the next beat on the stage has this trouble."""
        self._troubles[code] = Trouble(code=code, text=text, remedy=REMEDIES[code])

    def recover(self, code: TroubleCode) -> None:
        """It has it no more, if it had it."""
        self._troubles.pop(code, None)

    def _progress(self, now: float) -> None:
        """What follows from it beside the beat: the watchdog is fed, quick ends are forgotten."""
        # not only when it is due: a step that lasts may follow, and must have all of its time
        if now - self._fed >= min(LEAST_S, notify.watchdog_s() or math.inf):
            self._fed = now
            notify.watchdog()
        if not self._lasted and now - self._began >= starts.LASTED_S:
            self._lasted = True
            starts.forget(self._state, self._stage)

    def _write(self, data: bytes) -> None:
        temp = self._path.with_name(f".{self._path.name}.tmp")
        try:
            DISK.make_folder(self._path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            handle = os.open(temp, flags, 0o600)
            try:
                os.write(handle, data)
            finally:
                os.close(handle)
            temp.replace(self._path)
        except (OSError, StateUnusable):
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def living(state: Path, stage: str) -> Iterator[Heart]:
    """Be the one process that is `stage` on this state folder (`lock.alone`), and say so.

    StateUnusable (already_running) where another one is.
    """
    with alone(state, instance.name_of(stage)) as lock:
        heart = Heart(state, stage, lock)
        heart.beat(START)
        yield heart
        heart.end()


def read(state: Path, name: str) -> Beat | None:
    """What the stage of this name (`instance.names`) said last in this boot; None where it said
    nothing that can be read."""
    try:
        beat = Beat.stored((state / "run" / f"{name}.beat").read_bytes())
    except (OSError, ValidationError):
        return None
    return beat if beat.boot == boot_id() else None
