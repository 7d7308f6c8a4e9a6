"""The stages of a slot as units that are started and stopped: by systemd, or by `scanside run`.

    Units       what `apply` may do with them
    Systemctl   systemd(1), by its command
    Parent      `scanside run`, by files in its folder control/
    found       whichever of both has started this process

Rules
- A stage runs as an instance of its slot: scanside-work@2.service. `apply` and `update` are one
  unit each, that runs from the link `current`: their slot is not looked at.
- What was started stays wanted: one that ends is started again, until it is stopped. So UnitFailed
  from a start says only that it did not serve yet.
- control/: a request is a file ID.req with one line, "start receive 2"; the answer is ID.rep with
  one line, "ok" or "failed REASON". Both are written under another name and renamed, so that each
  appears whole. `guard`, a shell script, speaks the same (appliance/update/guard/guard.sh).

        start STAGE SLOT    ok once it said READY
        begin STAGE SLOT    ok at once
        stop STAGE SLOT     ok once it has ended
        kill STAGE SLOT     ok at once: SIGKILL, for one that hangs; it is still wanted
        restart STAGE SLOT  stop, then start
        state STAGE SLOT    "ok ready" and the like
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Protocol, cast, get_args

from appliance.errors import ScansideError

UnitState = Literal["absent", "starting", "ready", "stopping", "failed"]
"""`failed`: it ended by itself, and will be started again. `absent`: nobody wants it."""
CONTROL: Final = "SCANSIDE_CONTROL"
"""The folder control/ of the `scanside run` that started this process."""
PLAIN: Final = ("apply", "update")
START_S: Mapping[str, float] = MappingProxyType({"work": 2400.0, "prove": 2400.0})
START_OTHERS_S: Final = 600.0
"""How long a start may last: TimeoutStartSec of the units."""
STOP_S: Mapping[str, float] = MappingProxyType({"receive": 40.0, "work": 60.0})
STOP_OTHERS_S: Final = 20.0
"""How long an end may last before it is cut: TimeoutStopSec of the units."""
MARGIN_S: Final = 30.0
"""For whoever answers: it may have something else in hand."""
REFUSED: Final = "failed"


class UnitFailed(ScansideError):
    """A unit did not do what it was asked to."""

    code = "unit_failed"
    remedy = "Look at the log of the stage: journalctl -u 'scanside-*' -n 50, or of `scanside run`."


class Units(Protocol):
    """What `apply` may do with the stages of a slot. Each raises UnitFailed where that fails."""

    def start(self, stage: str, slot: int) -> None:
        """Returns when it said READY. UnitFailed where it ended or did not within its time."""

    def stop(self, stage: str, slot: int) -> None:
        """Returns when it has ended (receive: drained). One that is absent is fine."""

    def restart(self, stage: str, slot: int) -> None:
        """Stop, then start."""

    def state(self, stage: str, slot: int) -> UnitState:
        """How it does now."""


def start_s(stage: str) -> float:
    """Seconds that the start of this stage may last."""
    return START_S.get(stage, START_OTHERS_S)


def stop_s(stage: str) -> float:
    """Seconds after which the end of this stage is cut."""
    return STOP_S.get(stage, STOP_OTHERS_S)


def unit(stage: str, slot: int) -> str:
    """The name of its unit."""
    return f"scanside-{stage}.service" if stage in PLAIN else f"scanside-{stage}@{slot}.service"


def found(environ: Mapping[str, str] | None = None) -> Units:
    """The units of whoever started this process."""
    control = (os.environ if environ is None else environ).get(CONTROL)
    return Parent(Path(control)) if control else Systemctl()


class Systemctl:
    """systemd's units, by `systemctl`."""

    def __init__(self, program: str = "systemctl") -> None:
        self._program = program

    def start(self, stage: str, slot: int) -> None:
        self._do("start", stage, slot, start_s(stage))

    def stop(self, stage: str, slot: int) -> None:
        self._do("stop", stage, slot, stop_s(stage))

    def restart(self, stage: str, slot: int) -> None:
        self._do("restart", stage, slot, stop_s(stage) + start_s(stage))

    def state(self, stage: str, slot: int) -> UnitState:
        said = self._run("show", "--property=ActiveState,SubState", unit(stage, slot), within_s=0.0)
        facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        if facts.get("SubState") == "auto-restart":
            return "failed"
        states: dict[str, UnitState] = {
            "active": "ready",
            "reloading": "ready",
            "activating": "starting",
            "deactivating": "stopping",
            "failed": "failed",
        }
        return states.get(facts.get("ActiveState", ""), "absent")

    def _do(self, verb: str, stage: str, slot: int, within_s: float) -> None:
        self._run(verb, "--", unit(stage, slot), within_s=within_s)

    def _run(self, *words: str, within_s: float) -> str:
        command = [self._program, "--no-ask-password", *words]
        said = " ".join(words)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=within_s + MARGIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise UnitFailed(f"systemctl {said}: no end within {e.timeout:.0f} s") from e
        except OSError as e:
            raise UnitFailed(f"{self._program}: {e.strerror}") from e
        if done.returncode != 0:
            why = " ".join(done.stderr.split())[:300]
            raise UnitFailed(f"systemctl {said} ended with {done.returncode}: {why}")
        return done.stdout


class Parent:
    """The children of `scanside run`, by files in its folder control/."""

    def __init__(
        self,
        control: Path,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control = control
        self._sleep = sleep
        self._clock = clock

    def start(self, stage: str, slot: int) -> None:
        self._ask("start", stage, slot, start_s(stage))

    def stop(self, stage: str, slot: int) -> None:
        self._ask("stop", stage, slot, stop_s(stage))

    def restart(self, stage: str, slot: int) -> None:
        self._ask("restart", stage, slot, stop_s(stage) + start_s(stage))

    def state(self, stage: str, slot: int) -> UnitState:
        said = self._ask("state", stage, slot, 0.0)
        if said not in get_args(UnitState):
            raise UnitFailed(f"`scanside run` answered {said[:40]!r} to a question for a state")
        return cast("UnitState", said)

    def _ask(self, verb: str, stage: str, slot: int, within_s: float) -> str:
        """The words behind `ok`."""
        ident = uuid.uuid4().hex
        request, answer = (self._control / f"{ident}.{end}" for end in ("req", "rep"))
        temp = self._control / f".{ident}.tmp"
        line = f"{verb} {stage} {slot}"
        try:
            temp.write_text(f"{line}\n", encoding="ascii")
            temp.replace(request)
        except OSError as e:
            raise UnitFailed(
                f"{self._control}: {e.strerror}", remedy="Look whether `scanside run` still runs."
            ) from e
        end = self._clock() + within_s + MARGIN_S
        while not answer.exists():
            if self._clock() >= end:
                request.unlink(missing_ok=True)
                raise UnitFailed(
                    f"{line}: no answer of `scanside run`",
                    remedy="Look whether `scanside run` still runs.",
                )
            self._sleep(0.05)
        verdict, _, words = answer.read_text(encoding="utf-8").strip().partition(" ")
        answer.unlink(missing_ok=True)
        if verdict == REFUSED:
            raise UnitFailed(f"{line}: {words}")
        return words
