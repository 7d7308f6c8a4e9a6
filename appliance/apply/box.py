"""What `apply` acts through. Each is small, so that a whole update runs in a test without a unit.

The protocols are those that the product's own modules keep: appliance.update.slots (Slots),
appliance.update.units (Units), appliance.bundle.shelf by `shelving` (Bundles).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from appliance.apply.interlock import Seen
from appliance.release.record import Device, DeviceKind, Recall, Release
from appliance.settings import Settings
from appliance.store.files import DISK, Disk
from appliance.update.places import Places
from appliance.update.plan import Named

UnitState = Literal["absent", "starting", "ready", "stopping", "failed"]


class Units(Protocol):
    """The processes of stages, by slot. UnitFailed where one does not do what it is told."""

    def start(self, stage: str, slot: int) -> None: ...
    def stop(self, stage: str, slot: int) -> None: ...
    def restart(self, stage: str, slot: int) -> None: ...
    def state(self, stage: str, slot: int) -> UnitState: ...


class Slot(Protocol):
    """A slot that counts."""

    @property
    def slot(self) -> int: ...
    @property
    def release(self) -> str: ...
    @property
    def appliance(self) -> Named: ...
    @property
    def made(self) -> datetime: ...


class Slots(Protocol):
    """The slots of this box."""

    def complete(self) -> Sequence[Slot]: ...
    def current(self) -> int | None: ...
    def previous(self) -> int | None: ...
    def free(self) -> int: ...
    def build(
        self,
        number: int,
        release: Release,
        device: Device,
        wheels: Mapping[str, Path],
        requirements: bytes,
        own: Path,
    ) -> Slot:
        """ReleaseRefused where this release cannot be made here; StateUnusable where not now."""
        ...

    def switch(self, number: int) -> None: ...
    def back(self) -> int: ...
    def sweep(self) -> object: ...
    def mend(self) -> int | None:
        """Make `previous` anew where its Python does not start any more, as after an OS upgrade,
        and say which it is. ReleaseRefused, StateUnusable."""
        ...

    def forget(self, keep: Sequence[int], recall: Recall | None) -> object: ...


class Bundles(Protocol):
    """The shelf, as `apply` uses it. BundleRefused."""

    def active(self) -> tuple[Named, ...]: ...
    def holds(self, digest: str) -> bool: ...
    def admit(self, path: Path, release: str) -> None:
        """Put a bundle on the shelf that this release admits, its signature or none."""
        ...

    def activate(self, named: Named) -> None: ...
    def deactivate(self, name: str) -> None:
        """As before anybody chose a bundle of this name."""
        ...

    def withdraw(self, digest: str, reason: str) -> None: ...
    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """Plain files of the bundles here, by digest."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """What a release asks of the machine."""

    kind: DeviceKind
    python: str
    jetpack: str | None = None
    tensorrt: str | None = None


Prove = Callable[[int, Sequence[Path]], "str | None"]
"""(slot, bundles) -> why it is not proved, or None. In a process of its own, of that slot."""


@dataclass(frozen=True, slots=True)
class Box:
    """Everything that an update touches."""

    settings: Settings
    places: Places
    first_root: bytes
    machine: Machine
    slots: Slots
    units: Units
    bundles: Bundles
    prove: Prove
    local: Callable[[int], str | None]
    """Build for this slot what has no wheel; its digest, None where there is nothing to do.
    NotBuilt, StateUnusable."""
    seen: Callable[[], Seen]
    """Journal facts, read only."""
    ill: Callable[[], tuple[str, ...]]
    """Stages that are down or stuck, as `doctor` would say it."""
    migrate: Callable[[], object]
    """At confirm: the journal becomes that of the release that runs."""
    tell: Callable[[str, Mapping[str, str]], object]
    """The audit: (action, detail)."""
    clock: Callable[[], datetime]
    """Of this machine, aware."""
    tick: Callable[[], float]
    """Seconds of the monotonic clock."""
    stages: tuple[str, ...]
    """Those that run in slots, in order of start."""
    disk: Disk = field(default=DISK)
