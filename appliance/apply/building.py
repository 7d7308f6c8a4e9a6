"""What has no wheel is built for a slot, and `apply` takes over what came of it.

Rules.
1. Under systemd the unit `prove` of that slot builds: without network, as the user of the stages.
   Under `scanside run` it is a child.
2. What was built is read once, as a regular file of at most MOST_BYTES and without following a
   link; those bytes are what is written down and installed (appliance.update.built).
3. A slot that is being made gets it before it is proved. One that runs gets it while the box is
   idle (`Later`), once in a process of `apply`; then `work` is started again, while it is idle too.
"""

from __future__ import annotations

import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from appliance.apply.box import Box, Units
from appliance.apply.proving import PROOFS, PROVE_S
from appliance.apply.switching import WORK
from appliance.errors import ScansideError
from appliance.runtime.source_build import NotBuilt
from appliance.store import plain
from appliance.store.files import DISK
from appliance.update import built
from appliance.update.places import Places
from appliance.update.units import Systemctl

LOG = logging.getLogger(__name__)
MOST_BYTES = 100_000_000


def local(
    places: Places, units: Units, slot: int, against: str, python: Path, proofs: Path = PROOFS
) -> str | None:
    """Build and add what this slot has no wheel of; its digest, or None where there is nothing to
    do. NotBuilt, StateUnusable."""
    source = built.wanted(places, slot, against)
    if source is None:
        return None
    if isinstance(units, Systemctl):
        folder = proofs / f"{slot}.built"
        _by_unit(places, units, slot, source, folder)
    else:
        folder = places.trusted / "built"
        _by_child(places, slot, source, folder)
    made = built.add(places, slot, _taken(folder), against, python=python)
    return None if made.local is None else made.local.digest


def _by_unit(places: Places, units: Units, slot: int, source: Path, folder: Path) -> None:
    asked = places.trusted / "prove" / str(slot)
    DISK.make_folder(asked.parent)
    DISK.write(asked, f"BUNDLES=--source {source} --into {folder}\n".encode())
    try:
        units.start("prove", slot)
    except ScansideError as e:
        raise NotBuilt(e.text) from e


def _by_child(places: Places, slot: int, source: Path, folder: Path) -> None:
    python = places.slot(slot) / "bin" / "python"
    command = [python, "-m", "appliance", "prove", "--source", source, "--into", folder]
    try:
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PROVE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise NotBuilt(f"slot {slot} builds nothing: {e}") from e
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise NotBuilt(said[-1][:400] if said else f"exit status {done.returncode}")


def _taken(folder: Path) -> tuple[str, bytes]:
    """Rule 2. NotBuilt."""
    try:
        names = os.listdir(folder)
        if len(names) != 1:
            raise NotBuilt(f"{len(names)} files lie in {folder}, and one was to be built")
        data = plain.read(folder, names[0], most=MOST_BYTES)
    except OSError as e:
        raise NotBuilt(f"{folder}: {e.strerror}") from e
    if len(data) > MOST_BYTES:
        raise NotBuilt(f"{names[0][:80]!a} is longer than {MOST_BYTES} bytes")
    return names[0], data


@dataclass
class Later:
    """Rule 3, for the slot that runs."""

    box: Box
    _tried: bool = False
    _due: bool = False
    """Whether `work` is to be started again."""

    def turn(self, *, idle: bool) -> None:
        """Between two turns of the course."""
        runs = self.box.slots.current()
        if not idle or runs is None or self.box.places.trial.exists():
            return
        try:
            if self._due:
                self._due = False
                self.box.units.restart(WORK, runs)
            elif not self._tried:
                self._tried = True
                digest = self.box.local(runs)
                if digest is not None:
                    self.box.tell("built here", {"slot": str(runs), "digest": digest})
                    self._due = True
        except ScansideError as e:  # what runs goes on; it is tried again at the next start
            LOG.error("%s", e.one_line())
