"""The bundles of this device that compare two exams, each with the one network that it needs.

Rules
- Bodies are measured by the bundle of today's report; where it is not on the shelf any more, by the
  active one that finds nodules. Of its networks `measure` alone is loaded: that is little memory.
- The active bundle that compares lays exams over each other. Without one, or where it cannot be
  loaded, demons do, and how well a size is repeated is what was measured with what ships
  (prior/repeated.py).
- What was loaded stays until `close`. Bundles of the shelf are checked as at every load; their
  golden cases are the affair of who installs and of `work`.
"""

from __future__ import annotations

import logging
from typing import Final

from appliance.backend.choose import choose
from appliance.backend.open import open_backend
from appliance.bundle.exams import Compare
from appliance.bundle.manifest import Manifest, Network
from appliance.bundle.shelf import Entry, Shelf
from appliance.bundle.trust import Loaded as OnShelf
from appliance.errors import BackendUnavailable, BundleRefused, ScansideError
from appliance.lines.compare import Bundles, Laying, Loaded
from appliance.lines.displaced import by_network
from appliance.lines.followed import follows
from appliance.prior import identity, locate, register
from appliance.settings import Settings

log = logging.getLogger("scanside.compare")

LAYING: Final = Laying(register.register, locate.locate, identity.judged)
ACTIVE: Final = "active"
THREADS: Final = 1
"""The work beside it has the machine."""


class CompareBundles:
    """Those of one shelf."""

    def __init__(self, settings: Settings) -> None:
        self._shelf = Shelf(settings.state, allow_unsigned=settings.bundles.allow_unsigned)
        self._library = choose(settings.work.backend)
        self._checked: dict[str, OnShelf] = {}
        """By digest: a bundle is some megabytes, and checking it takes tenths of a second."""
        self._measuring: dict[str, Loaded] = {}
        self._laying: tuple[str, Loaded] | None = None

    def manifest(self, digest: str) -> Manifest:
        """Of the bundle with this digest. BundleRefused where it is not on the shelf any more."""
        return self._load(self._entry(digest)).manifest

    def follows(self, digest: str) -> bool:
        """Whether what it finds can be followed; False where it cannot be asked."""
        try:
            return follows(self.manifest(digest))
        except ScansideError:
            return False

    def of(self, digest: str, lays: str | None = ACTIVE) -> Bundles:
        """What compares an exam whose report is of this bundle. lays: digest of the bundle that
        lays exams over each other, None: demons, or the ACTIVE one. BundleRefused where nothing
        measures."""
        nodules = self._nodules(digest)
        laying = None if lays is None else self._lays(lays)
        if laying is None:
            return Bundles(nodules)
        return Bundles(
            nodules,
            registers=laying.ref,
            displace=by_network(laying.manifest, laying.backend),
            repeated=laying.manifest.line_of(Compare).repeatability,
        )

    def warm(self) -> None:
        """Open what the next exam will most likely be compared with."""
        for one in self._active():
            if follows(one.manifest):
                self.of(one.digest)

    def close(self) -> None:
        """Let every network go."""
        for loaded in self._measuring.values():
            loaded.backend.close()
        if self._laying is not None:
            self._laying[1].backend.close()
        self._measuring, self._laying = {}, None

    def _nodules(self, digest: str) -> Loaded:
        if digest in self._measuring:
            return self._measuring[digest]
        try:
            found = self._load(self._entry(digest))
        except BundleRefused as e:
            active = [one for one in self._active() if follows(one.manifest)]
            if not active:
                raise
            log.warning("%s: the active one measures", e.one_line())
            found = active[0]
        made = self._opened(found, "measure")
        self._measuring[digest] = made
        return made

    def _lays(self, digest: str) -> Loaded | None:
        """The bundle that compares, opened once; None where the active one is asked for and there
        is none to be had."""
        if digest != ACTIVE:
            found: OnShelf | None = self._load(self._entry(digest))
        else:
            active = (one for one in self._active() if not one.manifest.line.takes_images)
            found = next(active, None)
        if found is None:
            return None
        if self._laying is None or self._laying[0] != found.digest:
            if self._laying is not None:
                self._laying[1].backend.close()
            try:
                self._laying = found.digest, self._opened(found, "displace")
                by_network(found.manifest, self._laying[1].backend)
            except (BundleRefused, BackendUnavailable) as e:
                log.error("%s: demons lay exams over each other", e.one_line())
                self._laying = None
                return None
        return self._laying[1]

    def _active(self) -> list[OnShelf]:
        """The active bundles that can be loaded, by name."""
        found = []
        for entry in self._shelf.active():
            try:
                found.append(self._load(entry))
            except BundleRefused as e:
                log.warning("%s", e.one_line())
        return found

    def _load(self, entry: Entry) -> OnShelf:
        if entry.digest not in self._checked:
            self._checked[entry.digest] = self._shelf.load(entry)
        return self._checked[entry.digest]

    def _entry(self, digest: str) -> Entry:
        entry = next((one for one in self._shelf.list() if one.digest == digest), None)
        if entry is None:
            raise BundleRefused("its bundle is not on the shelf any more", code="bundle_not_found")
        return entry

    def _opened(self, found: OnShelf, role: str) -> Loaded:
        """With this network alone, where the bundle has it."""
        networks: dict[str, Network] = {
            name: network for name, network in found.manifest.networks.items() if name == role
        }
        data = {name: found.networks[name] for name in networks}
        backend = open_backend(self._library, networks, data, THREADS)
        return Loaded(found.ref, found.manifest, backend)
