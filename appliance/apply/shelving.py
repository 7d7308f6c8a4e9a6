"""The shelf as `apply` uses it: a verified release admits its bundles, whoever signed them.

Rules.
1. The digest of the bundle's manifest stands in the release, which a threshold of keys has signed.
   So no key of its own is asked for, and the shelf remembers `release` in the place of the signer.
   By hand (`scanside bundle add`) a key is asked for as ever.
2. Golden cases have run in `prove`, in a process with a backend; here there is none, and their kept
   result counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.bundle import archive
from appliance.bundle.manifest import digest
from appliance.bundle.shelf import Shelf
from appliance.bundle.tables import RELEASE
from appliance.bundle.trust import Loaded
from appliance.errors import ScansideError
from appliance.update.plan import Named


class ReleaseShelf(Shelf):
    """A shelf onto which only verified releases put anything (rule 1)."""

    def _signer(self, loaded: Loaded, allow_unsigned: bool, allow_development: bool) -> str:
        return RELEASE


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

    def deactivate(self, name: str) -> None:
        self.shelf.deactivate(name)

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
