"""A box that applies releases, whole but for its processes: real folders, real metadata and blobs,
a small shelf and small slots on the disk, and units that record what they are told and start
nothing.

`course()` gives what a process of `apply` is: a new one reads all of it from the files again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from appliance.apply.box import Box, Machine, UnitState
from appliance.apply.course import Course, Turn
from appliance.apply.interlock import QUIET_S, Quiet, Seen
from appliance.apply.notes import Notes
from appliance.apply.offers import Offers
from appliance.apply.supply import Supply
from appliance.bundle import archive, trust
from appliance.bundle.manifest import digest as digest_of
from appliance.errors import BundleRefused, ScansideError
from appliance.release.record import Device, Recall, Release
from appliance.report import Record
from appliance.settings import Settings
from appliance.store.files import Disk
from appliance.update import facts, steps
from appliance.update.fetch import Fetching
from appliance.update.places import Places
from appliance.update.plan import Named
from appliance.update.source import Folder
from appliance.update.states import State
from appliance.update.steps import Steps
from rigs.releasing import Simulated
from rigs.serving import lay

STAGES = ("publish", "work", "receive", "retain")
FIRST = Named(name="scanside", version="0.1.0", digest="a" * 64)


class Slot(Record):
    """slots/N/complete of the small slots."""

    slot: int
    release: str
    appliance: Named
    made: datetime


@dataclass
class SmallSlots:
    """Slots that are a folder with `complete`."""

    places: Places
    disk: Disk
    now: datetime
    built: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def complete(self) -> Sequence[Slot]:
        found = sorted((self.places.root / "slots").glob("*/complete"))
        return [Slot.model_validate_json(one.read_bytes()) for one in found]

    def current(self) -> int | None:
        return self._leads(self.places.current)

    def previous(self) -> int | None:
        return self._leads(self.places.previous)

    def free(self) -> int:
        return max([0, *(one.slot for one in self.complete())]) + 1

    def build(
        self,
        number: int,
        release: Release,
        device: Device,
        wheels: Mapping[str, Path],
        requirements: bytes,
        own: Path,
    ) -> Slot:
        assert requirements
        assert own.read_bytes()
        assert all(path.read_bytes() for path in wheels.values())
        wheel = release.appliance.wheel
        named = Named(name="scanside", version=release.appliance.version, digest=wheel.digest)
        self.built.append((number, tuple(sorted([*wheels, own.name]))))
        return self.put(number, release.path, named)

    def put(self, number: int, release: str, named: Named) -> Slot:
        made = Slot(slot=number, release=release, appliance=named, made=self.now)
        self.disk.make_folder(self.places.slot(number))
        data = made.model_dump_json().encode()
        self.disk.write(self.places.slot(number) / "complete", data)
        return made

    def switch(self, number: int) -> None:
        runs = self.current()
        if runs == number:
            return
        if runs is not None:
            self._point(self.places.previous, runs)
        self._point(self.places.current, number)

    def back(self) -> int:
        before = self.previous()
        assert before is not None
        self._point(self.places.current, before)
        return before

    def sweep(self) -> None:
        """Nothing is ever half made here."""

    def mend(self) -> int | None:
        """Their Python is never gone."""
        return None

    def forget(self, keep: Sequence[int], recall: Recall | None) -> None:
        """All slots stay, for a test to look at."""

    def _point(self, link: Path, number: int) -> None:
        temp = link.with_name(f".{link.name}.new")
        temp.unlink(missing_ok=True)
        temp.symlink_to(f"slots/{number}")
        self.disk.move(temp, link)

    def _leads(self, link: Path) -> int | None:
        return int(os.readlink(link).split("/")[1]) if link.is_symlink() else None


@dataclass
class Units:
    """What was told to units, and how they are."""

    fail: set[tuple[str, int]] = field(default_factory=set)
    told: list[tuple[str, str, int]] = field(default_factory=list)
    states: dict[tuple[str, int], UnitState] = field(default_factory=dict)
    before: Callable[[str, str, int], object] = lambda *_: None

    def start(self, stage: str, slot: int) -> None:
        self._tell("start", stage, slot)
        if (stage, slot) in self.fail:
            self.states[stage, slot] = "failed"
            raise ScansideError(f"{stage} of slot {slot} did not start", code="unit_failed")
        self.states[stage, slot] = "ready"

    def stop(self, stage: str, slot: int) -> None:
        self._tell("stop", stage, slot)
        self.states.pop((stage, slot), None)

    def restart(self, stage: str, slot: int) -> None:
        self._tell("restart", stage, slot)
        self.states[stage, slot] = "ready"

    def state(self, stage: str, slot: int) -> UnitState:
        return self.states.get((stage, slot), "absent")

    def _tell(self, what: str, stage: str, slot: int) -> None:
        self.before(what, stage, slot)
        self.told.append((what, stage, slot))

    def running(self) -> set[tuple[str, int]]:
        """(stage, slot) of those that are ready, but `update`, which has no slot."""
        ready = {one for one, state in self.states.items() if state == "ready"}
        return {one for one in ready if one[0] != "update"}


@dataclass
class Shelf:
    """Bundles as files, and which is active, in one JSON file."""

    folder: Path
    disk: Disk

    def active(self) -> tuple[Named, ...]:
        return tuple(Named.model_validate(one) for one in self._table()["active"])

    def holds(self, digest: str) -> bool:
        return (self.folder / digest).exists()

    def admit(self, path: Path, release: str) -> None:
        data = path.read_bytes()
        self.disk.make_folder(self.folder)
        self.disk.write(self.folder / trust.check(data).digest, data)

    def activate(self, named: Named) -> None:
        table = self._table()
        if named.digest in table["withdrawn"]:
            raise BundleRefused(f"{named.words()} was recalled", code="bundle_recalled")
        others = [one for one in self.active() if one.name != named.name]
        self._write({**table, "active": [one.model_dump() for one in (*others, named)]})

    def deactivate(self, name: str) -> None:
        stay = [one.model_dump() for one in self.active() if one.name != name]
        self._write({**self._table(), "active": stay})

    def withdraw(self, digest: str, reason: str) -> None:
        table = self._table()
        stay = [one.model_dump() for one in self.active() if one.digest != digest]
        self._write({"active": stay, "withdrawn": [*table["withdrawn"], digest]})

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        found: dict[str, Callable[[], bytes]] = {}
        for one in self.active():
            path = self.folder / one.digest
            for data in archive.read(path.read_bytes()).values() if path.exists() else ():
                found[digest_of(data)] = lambda data=data: data  # type: ignore[misc]
        return found

    def _table(self) -> dict[str, Any]:
        path = self.folder / "table.json"
        found: dict[str, Any] = {"active": [], "withdrawn": []}
        return json.loads(path.read_bytes()) if path.exists() else found

    def _write(self, table: dict[str, Any]) -> None:
        self.disk.make_folder(self.folder)
        self.disk.write(self.folder / "table.json", json.dumps(table).encode())


@dataclass
class Applied:
    """One box, in slot 1 of FIRST, idle, and ready to take what `repo` publishes."""

    home: Path
    repo: Simulated
    disk: Disk = field(default_factory=Disk)
    update: dict[str, Any] = field(default_factory=dict)
    seen: Seen = field(default_factory=lambda: Seen(mark="quiet"))
    ill: tuple[str, ...] = ()
    tick: float = 1000.0
    local: datetime | None = None
    unproved: str | None = None
    proved: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    migrated: list[int] = field(default_factory=list)
    audit: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    units: Units = field(default_factory=Units)

    def __post_init__(self) -> None:
        for folder in (self.places.root / "slots", self.places.trusted, self.places.state):
            folder.mkdir(parents=True)
        self.slots = SmallSlots(self.places, self.disk, self.repo.now - timedelta(days=1))
        self.shelf = Shelf(self.home / "shelf", self.disk)
        self.slots.put(1, "stable/0.json", FIRST)
        self.slots.switch(1)
        for stage in STAGES:
            self.units.states[stage, 1] = "ready"

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(
            {
                "state": self.home / "state",
                "retain": {"reserve_mb": 0},
                "update": {
                    "root": self.home / "root",
                    "trusted": self.home / "trusted",
                    "downloads": self.home / "downloads",
                    "url": "http://127.0.0.1:9",
                    "auto": ["security", "feature", "model"],
                    **self.update,
                },
            }
        )

    @property
    def places(self) -> Places:
        home = self.home
        return Places(home / "root", home / "trusted", home / "downloads", home / "state")

    @property
    def first_root(self) -> bytes:
        return self.repo.files["metadata/1.root.json"]

    def box(self) -> Box:
        def prove(slot: int, paths: Sequence[Path]) -> str | None:
            self.proved.append((slot, tuple(path.name for path in paths)))
            return self.unproved

        return Box(
            settings=self.settings,
            places=self.places,
            first_root=self.first_root,
            machine=Machine("x86-64", "3.11.2"),
            slots=self.slots,
            units=self.units,
            bundles=self.shelf,
            prove=prove,
            local=lambda slot: None,
            seen=lambda: self.seen,
            ill=lambda: self.ill,
            migrate=lambda: self.migrated.append(self.slots.current() or 0),
            tell=lambda action, detail: self.audit.append((action, dict(detail))),
            clock=lambda: self.local or self.repo.now,
            tick=lambda: self.tick,
            stages=STAGES,
            disk=self.disk,
        )

    @property
    def notes(self) -> Notes:
        return Notes(self.places.trusted, self.disk)

    def course(self, *, quiet_s: float = QUIET_S) -> Course:
        """A process of `apply` that has already seen so much quiet."""
        box, notes = self.box(), self.notes
        made = Course(box, notes, Offers(box, notes), Supply(box), Quiet())
        made.quiet.idle(self.seen, self.tick - quiet_s)
        return made

    def fetch(self) -> None:
        """What the stage `update` does, from a folder instead of a server."""
        told = facts.told(self.places.trusted)
        assert told is not None, "apply tells the facts at its first turn"
        fetching = Fetching(self.settings, self.first_root, Disk())
        web = Folder(lay(self.home / "web", self.repo.files))
        facts.offer(Disk(), self.places.downloads, fetching.look(told, self.repo.now, web))

    def stick(self, name: str = "stick") -> Path:
        """The repository as a folder that a person brings."""
        return lay(self.home / name, self.repo.stick())

    def turns(self, course: Course, most: int = 40) -> Turn:
        """Turns until it waits or ends; as `update` does, everything is fetched at once."""
        for _ in range(most):
            made = course.turn()
            if made is not Turn.ON:
                return made
        raise AssertionError(f"no end: {self.steps()}")

    def offer(self, course: Course) -> Turn:
        """`apply` tells, `update` fetches, `apply` goes on."""
        course.turn()
        self.fetch()
        return self.turns(course)

    def steps(self) -> Steps | None:
        return steps.read(self.places)

    @property
    def state(self) -> State | None:
        found = self.steps()
        return None if found is None else found.state

    @property
    def text(self) -> str:
        found = self.steps()
        return found.texts[-1] if found is not None and found.texts else ""

    def guard_goes_back(self, why: str = "slot=2 stage=work why=starts") -> None:
        """What guard.sh does: the reason, the links, the units, the trial."""
        self.places.reason.write_text(f"{why}\n")
        to = self.slots.back()
        for stage in STAGES:
            self.units.states.pop((stage, 2), None)
            self.units.states[stage, to] = "ready"
        self.places.trial.unlink()
