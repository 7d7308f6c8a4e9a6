"""The flat files by which `guard` follows the stages while a release is on trial.

    trial/STAGE.starts   a line at each start, before Python begins: "SLOT"
    trial/STAGE.beat     one line: "SLOT UPTIME_S ALLOWED_S STARTS BOOT"

Rules
- They are flat because a shell reads them (appliance/update/guard/guard.sh), and without Python: a
  release whose Python does not start must be left too.
- Only while SCANSIDE_TRIAL is 1, as the environment of the slot says (Places.environment).
- Who starts a stage writes the first: ExecStartPre of its unit, or `scanside run`. The folder is
  made with it. The second is written by the stage itself, once it serves, at each beat. Where the
  folder is missing, the trial is over and nothing is written.
- UPTIME_S is the clock of /proc/uptime (CLOCK_BOOTTIME). BOOT is the id of this boot: a beat of
  another boot has no age. STARTS is how many starts of this slot there were when the process began,
  so `guard` sees how many came after its beat.
- A stage that ends as it was asked to takes its beat with it: who was stopped does not hang.
- Not durable, and no error: a disk that takes none costs only what `guard` could have seen.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from appliance.host.boot import boot_id
from appliance.store import instance

ON: Final = "SCANSIDE_TRIAL"
FOLDER: Final = "trial"
SLEEP_S: Final = 5.0
"""Longest sleep of a loop that has nothing to do, while on trial."""
WAITING: Final = ""
ALLOWED_S: Mapping[str, float] = MappingProxyType(
    # "open" and "delete" as store/conditions.py has them; "judge" beats at each bundle
    {WAITING: 20.0, "judge": 120.0, "open": 1800.0, "delete": 600.0}
)
RESOLVES_S: Final = 40.0
"""`publish` while it waits: it also looks up the broker's name, and three name servers that are
silent cost 30 s (resolv.conf(5): 5 s, two attempts). Unable to report is no reason to go back."""


def on_trial(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process was started while its release is on trial."""
    return (os.environ if environ is None else environ).get(ON) == "1"


def allowed_s(stage: str, step: str) -> float:
    """How long `guard` waits for the next beat of a stage at this step."""
    if (stage, step) == ("publish", WAITING):
        return RESOLVES_S
    return ALLOWED_S.get(step, max(ALLOWED_S.values()))


def note_start(state: Path, stage: str, slot: int) -> None:
    """A line more in its starts; for who starts it, before it does."""
    path = state / FOLDER / f"{stage}.starts"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="ascii") as file:
            file.write(f"{slot}\n")


class Pulse:
    """The second file, as this process writes it."""

    def __init__(self, state: Path, stage: str) -> None:
        folder = state / FOLDER
        self._stage = stage
        self._path = folder / f"{stage}.beat"
        self._slot = instance.slot()
        self._boot = boot_id()
        self._starts = _starts(folder / f"{stage}.starts", self._slot)

    @property
    def goes_on(self) -> bool:
        """Whether the trial is not over yet."""
        return self._path.parent.is_dir()

    def beat(self, step: str) -> None:
        """The stage serves, and goes on at `step`."""
        up = time.clock_gettime(time.CLOCK_BOOTTIME)
        allowed = allowed_s(self._stage, step)
        line = f"{self._slot} {up:.0f} {allowed:.0f} {self._starts} {self._boot}\n"
        temp = self._path.with_name(f".{self._path.name}.tmp")
        with contextlib.suppress(OSError):
            temp.write_text(line, encoding="ascii")
            temp.replace(self._path)

    def end(self) -> None:
        """It was asked to end."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _starts(path: Path, slot: int) -> int:
    try:
        return path.read_bytes().splitlines().count(b"%d" % slot)
    except OSError:
        return 0
