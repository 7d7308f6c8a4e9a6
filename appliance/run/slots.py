"""The slots that `scanside run` starts stages from: which Python, which environment, and `guard`.

Rules
- root/guard/guard.sh is the guard, outside of the slots. Without it nothing is started: a release
  on trial could not be left.
- At the start `guard` finishes what was begun before a power cut, and makes a slot anew whose
  Python has gone. Only then is `current` read.
- A guard that is at work is not started twice. It is ended with the parent: it goes on where it was
  at the next start.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from appliance.errors import StateUnusable
from appliance.run.child import of_a_slot
from appliance.settings import Settings
from appliance.update.places import Places
from appliance.update.units import CONTROL, PLAIN

log = logging.getLogger("scanside.run")

EVERY_S: Final = 10.0
AT_START_S: Final = 1800.0
"""A slot that is made anew is an installation: minutes on a slow disk."""


def places_of(settings: Settings) -> Places | None:
    """Where the parts of an update lie; None for an appliance without slots."""
    update = settings.update
    if update.root is None:
        return None
    return Places(update.root, update.trusted, update.downloads, settings.state)


class Slots:
    """What the parent asks of them. `control`: the folder by which `guard` asks the parent."""

    def __init__(self, places: Places, control: Path) -> None:
        self.control = control
        self._places = places
        self._guard: subprocess.Popen[bytes] | None = None
        self._watched = 0.0
        if not self._script.is_file():
            raise StateUnusable(
                f"{self._script} is missing: a release on trial could not be left",
                remedy="Install it again, from appliance/update/guard of the release.",
                code="no_guard",
            )

    def begin(self) -> int:
        """Let `guard` finish what was begun, and say the number of `current`. StateUnusable where
        there is no slot."""
        try:
            done = subprocess.run(self._command("boot"), timeout=AT_START_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            log.error("guard at the start: %s", e)
        else:
            if done.returncode != 0:
                log.error("guard ended with %s at the start", done.returncode)
        try:
            link = os.readlink(self._places.current)
        except OSError as e:
            raise StateUnusable(
                f"{self._places.current}: {e.strerror}",
                remedy="Install the appliance, or correct [update] root.",
                code="no_slot",
            ) from e
        number = link.removeprefix("slots/")
        if not (number.isascii() and number.isdigit()):
            raise StateUnusable(
                f"{self._places.current} leads to {link}, which is no slot",
                remedy="It leads to slots/N: install the appliance again.",
                code="no_slot",
            )
        return int(number)

    def python(self, stage: str, slot: int) -> str:
        """What runs this stage."""
        places = self._places
        return str((places.current if stage in PLAIN else places.slot(slot)) / "bin" / "python")

    def environment(self, stage: str, slot: int) -> Mapping[str, str]:
        """What it gets beside the environment of the parent."""
        return of_a_slot(stage, slot, self.control, self._places.environment(slot))

    def watch(self, now: float) -> None:
        """Run `guard` where it is due: every 10 s, while a release is on trial."""
        if self._guard is not None:
            if (code := self._guard.poll()) is None:
                return
            if code != 0:
                log.error("guard ended with %s", code)
            self._guard = None
        if now - self._watched >= EVERY_S and self._places.trial.exists():
            self._watched = now
            try:
                self._guard = subprocess.Popen(
                    self._command("watch"), env={**os.environ, CONTROL: str(self.control)}
                )
            except OSError as e:
                log.error("guard: %s", e)

    def close(self) -> None:
        """End it."""
        if self._guard is not None and self._guard.poll() is None:
            self._guard.kill()
            self._guard.wait()

    @property
    def _script(self) -> Path:
        return self._places.root / "guard" / "guard.sh"

    def _command(self, verb: str) -> list[str]:
        places = self._places
        return ["/bin/sh", str(self._script), verb, str(places.root), str(places.trusted)]
