"""What an update touches, as the product has it: slots, shelf, units, the journal.

Rule: root may be the user of `apply`. What it writes into the state folder belongs to whom that
folder belongs (`Owned`); in a folder of its own that changes nothing.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from appliance import stages
from appliance.apply import building, interlock, journals, proving
from appliance.apply.audit import Audit
from appliance.apply.box import Box, Machine, Units
from appliance.apply.shelving import ReleaseShelf, ShelfBundles
from appliance.bundle.shelf import Shelf
from appliance.host import facts, jetson
from appliance.release.record import Device, DeviceKind, Recall, Release
from appliance.settings import Settings
from appliance.store import conditions
from appliance.store.files import DISK, Disk
from appliance.update import slots
from appliance.update.places import Places
from appliance.update.plan import APPLIANCE, Named
from appliance.update.slots import Complete, Purpose
from appliance.update.stage import first_root

_JETPACKS = {36: "6", 38: "7"}
"""Release of Jetson Linux -> JetPack (jetson/README.md)."""


class Owned(Disk):
    """A disk whose new files and folders belong to who owns `like`."""

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

    def mend(self) -> int | None:
        number = slots.previous(self.places)
        if number is None or number == slots.current(self.places):
            return None
        if slots.starts(self.places, number):
            return None
        slots.rebuild(self.places, number, python=self.python)
        return number

    def forget(self, keep: Sequence[int], recall: Recall | None) -> object:
        return slots.forget(self.places, keep, recall=recall, disk=self.disk)


def box(settings: Settings, units: Units, audit: Audit) -> Box:
    """The box of these settings. StateUnusable (`update_no_trust`)."""
    places = places_of(settings)
    owned = Owned(settings.state)
    python = Path(getattr(sys, "_base_executable", sys.executable))

    def told(action: str, detail: Mapping[str, str]) -> None:
        audit.add("apply", action, detail)

    return Box(
        settings=settings,
        places=places,
        first_root=first_root(settings),
        machine=machine(),
        slots=KeptSlots(places, python),
        units=units,
        bundles=ShelfBundles(ReleaseShelf(settings.state, audit=told, disk=owned)),
        prove=lambda slot, paths: proving.prove(places, units, slot, paths),
        local=lambda slot: building.local(places, units, slot, against(), python),
        seen=lambda: interlock.look(settings.state),
        ill=lambda: ill(settings),
        migrate=lambda: migrate(settings),
        tell=told,
        clock=lambda: datetime.now(timezone.utc),
        tick=time.monotonic,
        stages=tuple(row.name for row in stages.of(settings) if row.in_slots),
    )


def shelf_by_hand(settings: Settings, told: Callable[[str, Mapping[str, str]], None]) -> Shelf:
    """The shelf of the stages for what a person brings; what is changed is told to `told`."""
    unsigned = settings.bundles.allow_unsigned
    return Shelf(settings.state, audit=told, allow_unsigned=unsigned, disk=Owned(settings.state))


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
    with journals.writing(settings.state) as journal:
        journal.migrate("apply")


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


def against() -> str:
    """What a library that is built here is built against: Jetson Linux, which brings CUDA."""
    found = jetson.l4t()
    return "" if found is None else f"Jetson Linux {'.'.join(map(str, found))}"


def kind(architecture: str, model: str | None) -> DeviceKind:
    """Which kind of device this is; pure."""
    if architecture != "aarch64":
        return "x86-64"
    return "thor" if "thor" in (model or "").lower() else "orin"
