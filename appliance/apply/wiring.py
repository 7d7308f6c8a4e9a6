"""What an update touches, as the product has it: slots, shelf, units, the journal, a child that
proves.

Rules.
1. Root may be the user of `apply`; what it writes into the state folder belongs to whom that folder
   belongs (`Owned`). In a folder of its own that changes nothing.
2. `prove` runs in the slot that is to be proved, so a new appliance that cannot even start proves
   nothing. A child that says nothing for PROVE_S is ended, and what it proved is nothing.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from appliance import stages
from appliance.apply import interlock
from appliance.apply.audit import Audit
from appliance.apply.box import Box, Machine, Units
from appliance.bundle import archive
from appliance.bundle.manifest import digest
from appliance.bundle.shelf import Shelf
from appliance.errors import ScansideError
from appliance.host import facts, jetson
from appliance.release.record import Device, DeviceKind, Recall, Release
from appliance.settings import Settings
from appliance.store import conditions
from appliance.store.files import DISK, Disk
from appliance.store.journal import Journal
from appliance.update import slots
from appliance.update.places import Places
from appliance.update.plan import APPLIANCE, Named
from appliance.update.slots import Complete, Purpose
from appliance.update.stage import first_root

PROVE_S = 3600.0
"""An engine that is built first takes minutes on an Orin."""
_JETPACKS = {36: "6", 38: "7"}
"""Release of Jetson Linux -> JetPack (jetson/README.md)."""


class Owned(Disk):
    """A disk whose new files and folders belong to who owns `like` (rule 1)."""

    def __init__(self, like: Path) -> None:
        self._like = like

    def put(self, path: Path, data: bytes) -> None:
        super().put(path, data)
        self._give(path)

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        self._give(path)

    def _give(self, path: Path) -> None:
        if os.geteuid() == 0:
            owner = self._like.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class KeptSlots:
    """appliance.update.slots, of one box. `python`: the one that slots are made with."""

    places: Places
    python: Path
    disk: Disk = DISK

    def complete(self) -> tuple[Complete, ...]:
        return slots.complete(self.places)

    def current(self) -> int | None:
        return slots.current(self.places)

    def previous(self) -> int | None:
        return slots.previous(self.places)

    def free(self) -> int:
        return slots.free(self.places)

    def build(
        self,
        number: int,
        release: Release,
        device: Device,
        wheels: Mapping[str, Path],
        requirements: bytes,
        own: Path,
    ) -> Complete:
        wheel = release.appliance.wheel
        named = Named(name=APPLIANCE, version=release.appliance.version, digest=wheel.digest)
        record = Purpose(
            release=release.path,
            appliance=named,
            python=device.python,
            system_packages=device.kind != "x86-64",  # TensorRT of JetPack
        )
        return slots.build(
            self.places,
            number,
            wheels,
            requirements,
            own,
            record=record,
            python=self.python,
            disk=self.disk,
        )

    def switch(self, number: int) -> None:
        slots.switch(self.places, number, self.disk)

    def back(self) -> int:
        return slots.back(self.places, self.disk)

    def sweep(self) -> object:
        return slots.sweep(self.places, self.disk)

    def forget(self, keep: Sequence[int], recall: Recall | None) -> object:
        return slots.forget(self.places, keep, recall=recall, disk=self.disk)


@dataclass(frozen=True, slots=True)
class ShelfBundles:
    """The shelf of a state folder, without a backend: golden cases have run in `prove`."""

    shelf: Shelf

    def active(self) -> tuple[Named, ...]:
        return tuple(
            Named(name=one.name, version=one.version, digest=one.digest)
            for one in self.shelf.active()
            if one.refused is None
        )

    def holds(self, digest: str) -> bool:
        return any(one.digest == digest for one in self.shelf.list())

    def admit(self, path: Path, release: str) -> None:
        self.shelf.add(path)

    def activate(self, named: Named) -> None:
        self.shelf.activate(named.name, named.digest)

    def withdraw(self, digest: str, reason: str) -> None:
        self.shelf.withdraw(digest, reason)

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        found: dict[str, Callable[[], bytes]] = {}
        for entry in self.shelf.active():
            with suppress(ScansideError, OSError):
                for data in archive.read(self.shelf.path(entry).read_bytes()).values():
                    found[digest(data)] = _gives(data)
        return found


def _gives(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def box(settings: Settings, units: Units, audit: Audit) -> Box:
    """The box of these settings. StateUnusable (`update_no_trust`)."""
    places = places_of(settings)
    owned = Owned(settings.state)

    def told(action: str, detail: Mapping[str, str]) -> None:
        audit.add("apply", action, detail)

    return Box(
        settings=settings,
        places=places,
        first_root=first_root(settings),
        machine=machine(),
        slots=KeptSlots(places, Path(getattr(sys, "_base_executable", sys.executable))),
        units=units,
        bundles=ShelfBundles(Shelf(settings.state, audit=told, disk=owned)),
        prove=lambda slot, paths: prove(places, slot, paths),
        seen=lambda: interlock.look(settings.state),
        ill=lambda: ill(settings),
        migrate=lambda: migrate(settings),
        tell=told,
        clock=lambda: datetime.now(timezone.utc),
        tick=time.monotonic,
        stages=tuple(row.name for row in stages.of(settings) if row.in_slots),
    )


def places_of(settings: Settings) -> Places:
    """The folders of these settings, which name a root."""
    ours = settings.update
    return Places(ours.root or Path(), ours.trusted, ours.downloads, settings.state)


def ill(settings: Settings) -> tuple[str, ...]:
    """Stages that are down or stuck (appliance.store.conditions)."""
    found = conditions.look(settings)
    return tuple(name for name, one in found.items() if one.ill)


def migrate(settings: Settings) -> None:
    """The journal becomes one of this release's schema (store/journal/steps.py)."""
    with Journal.open(settings.state) as journal:
        journal.migrate("apply")


def prove(places: Places, slot: int, paths: Sequence[Path]) -> str | None:
    """Rule 2: why these bundles are not proved in this slot; None where they are."""
    python = places.slot(slot) / "bin" / "python"
    verb = ["prove", *map(str, paths), "--json"] if paths else ["--version"]
    command = [str(python), "-m", "appliance", *verb]
    try:
        done = subprocess.run(
            command,
            cwd="/",
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PROVE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"slot {slot} proved nothing within {PROVE_S / 60:.0f} minutes"
    except OSError as e:
        return f"slot {slot} does not start: {e.strerror}"
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    with suppress(ValueError, AttributeError):
        why = json.loads(done.stdout).get("text")
        if why:
            return str(why)[:400]
    return said[-1][:400] if said else f"exit status {done.returncode}"


def machine() -> Machine:
    """What a release asks of this machine."""
    found = jetson.l4t()
    try:
        tensorrt: str | None = ".".join(metadata.version("tensorrt").split(".")[:4])
    except metadata.PackageNotFoundError:
        tensorrt = None
    return Machine(
        kind=kind(platform.machine(), facts.model()),
        python=platform.python_version().rstrip("+"),
        jetpack=_JETPACKS.get(found[0]) if found is not None else None,
        tensorrt=tensorrt,
    )


def kind(architecture: str, model: str | None) -> DeviceKind:
    """Which kind of device this is; pure."""
    if architecture != "aarch64":
        return "x86-64"
    return "thor" if "thor" in (model or "").lower() else "orin"
