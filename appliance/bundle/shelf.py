"""The bundles on this device, which of them is active, and which comes back on rollback.

    state/bundles/<name>/<version>-<digest12>.scanside   what was added
    state/bundles/{installed,active,recalled}.json       what is known of it (tables)
    state/gate/                                          which golden cases have passed (gates)
    factory/bundles/<name>.scanside in the wheel; trusted by factory/digests.json

Rules.
1. Factory bundles are on the shelf without being installed. Where nothing else was chosen, the
   factory's is active.
2. A file without its line in installed.json is not on the shelf; that line is written last. So an
   `add` that fails or loses power leaves the shelf as it was.
3. What is loaded is what was checked: the bytes are read once, then every digest, the bundle digest
   recorded at install (or in the wheel), and for what came from outside the signature, each time.
   No symbolic link is followed.
4. Nothing becomes active before its golden cases have passed on the backend in use. Their result is
   kept by bundle digest and backend key, so what passed runs again only for another backend; what
   failed runs again when it is wanted, because a backend may have failed for the moment.
5. Golden cases run while nobody holds the lock of the shelf. Who ran them then takes the lock,
   looks whether all is as it was, and commits.
6. `rollback` swaps active and previous: done twice, it changes nothing.
7. Every change is told to `audit` before it is made: what cannot be audited does not happen. What
   the audit does not explain does not count (standing), and is a problem that `problems` names.
8. A damaged table stops nobody: it is made again from the audit and from what lies here, and set
   aside by the first who may write (`mend`).
9. A bundle without a signature is added, and counts, with `allow_unsigned` of the settings alone.
10. What `withdraw` has recalled never serves again. Where it was active, the newest signed bundle
    of its name that was active once, not given up, takes its place; else the factory's; else none.
11. `deactivate` is for a name that had nothing active before: it is as if nobody had chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version as installed_version
from pathlib import Path

import appliance.factory
from appliance.bundle import golden, history, trust
from appliance.bundle.entry import Entry, in_order
from appliance.bundle.gates import Gates
from appliance.bundle.history import ACTIVATE, ADD, DEACTIVATE, NONE, RECALL, History
from appliance.bundle.holdings import Holdings, file_bytes
from appliance.bundle.tables import (
    FOLDER,
    RELEASE,
    UNSIGNED,
    Choice,
    ChoiceTable,
    Installed,
    InstalledTable,
    Recalled,
    RecallTable,
    Tables,
)
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused, StateUnusable
from appliance.store import plain
from appliance.store.files import DISK, Disk
from appliance.store.lock import locked

__all__ = ["Entry", "Shelf"]

FACTORY = Path(appliance.factory.__file__).parent
MENDED = "shelf mended"

Audit = Callable[[str, Mapping[str, str]], object]
"""(action, detail): appends one row to the journal's audit table."""


class Shelf:
    """Bundles under `state` and in the wheel. Every call reads the disk anew."""

    def __init__(
        self,
        state: Path,
        *,
        runner: golden.Runner | None = None,
        audit: Audit | None = None,
        known: Callable[[], History] | None = None,
        allow_unsigned: bool = False,
        disk: Disk = DISK,
        factory: Path = FACTORY,
        appliance_version: str | None = None,
    ) -> None:
        """`runner` runs golden cases; without one `add` leaves them not run. `known`: what the
        audit knows, if not the journal of `state`. `allow_unsigned`: the settings' word."""
        self._folder = state / FOLDER
        self._trust = state / "trust"
        self._runs_goldens = runner is not None
        self._gates = Gates(state, runner, disk)
        self._audit = audit
        self._allow_unsigned = allow_unsigned
        self._disk = disk
        self._appliance = appliance_version or _release(installed_version("scanside"))
        self._held = Holdings(
            state,
            factory,
            Tables(state, disk),
            known or partial(history.of_state, state),
            unsigned=allow_unsigned,
        )

    @property
    def audited(self) -> bool:
        """Whether changes are told to an audit table."""
        return self._audit is not None

    # What is here

    def list(self) -> tuple[Entry, ...]:
        """Every bundle, by name, then version, then digest."""
        factory = self._held.factory()
        held = self._held.standing()
        recalled = self._held.recalled()

        def entry(name: str, version: str, digest: str, signed_by: str | None) -> Entry:
            choice = held.choices.get(name)
            return Entry(
                name=name,
                version=version,
                digest=digest,
                origin="factory" if signed_by is None else "added",
                active=choice is not None and choice.active == digest,
                previous=choice is not None and choice.previous == digest,
                gate=self._gates.verdict(digest),
                signed_by=signed_by,
                refused=held.refused.get(digest),
                recalled=digest in recalled,
            )

        entries = {f.digest: entry(name, f.version, f.digest, None) for name, f in factory.items()}
        for digest, line in held.lines.items():
            entries.setdefault(digest, entry(line.name, line.version, digest, line.signed_by))
        return tuple(sorted(entries.values(), key=in_order))

    def active(self) -> tuple[Entry, ...]:
        """The active bundle of each name, by name; also one that does not count (`refused`)."""
        return tuple(entry for entry in self.list() if entry.active)

    def spares(self, entry: Entry) -> tuple[Entry, ...]:
        """Who may take its place while it cannot be loaded, the best first: signed bundles of its
        name that were active once and that nobody withdrew; the factory's last."""
        known = self._held.known()
        found = [
            one
            for one in self.list()
            if (one.name == entry.name and one.digest != entry.digest and one.refused is None)
            and one.digest not in known.withdrawn
            and (
                one.origin == "factory"
                or (one.signed_by != UNSIGNED and (one.previous or one.digest in known.used))
            )
        ]
        newest_first = sorted(found, key=in_order, reverse=True)
        return tuple(sorted(newest_first, key=lambda e: (e.origin == "factory", not e.previous)))

    def is_withdrawn(self, digest: str) -> bool:
        """Whether it was recalled; or a rollback gave it up, and nobody has activated it since."""
        return digest in self._held.known().withdrawn or self.is_recalled(digest)

    def is_recalled(self, digest: str) -> bool:
        """Whether it never serves again."""
        return digest in self._held.recalled()

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the shelf itself: tables that are damaged, what does not count."""
        return self._held.problems()

    def path(self, entry: Entry) -> Path:
        """Where its file lies."""
        added = entry.origin == "added"
        return self._held.path(entry.name, entry.version, entry.digest, added=added)

    def load(self, entry: Entry) -> Loaded:
        """The bundle's bytes, checked (rule 3). BundleRefused says what does not fit."""
        path, added = self.path(entry), entry.origin == "added"
        self._refuse_recalled(entry.digest, f"{entry.name} {entry.version}")
        if entry.refused is not None:
            raise BundleRefused(
                f"{entry.name} {entry.version} does not count: {entry.refused}",
                remedy="Keep the state folder for the fleet team, and add the bundle again.",
                code="bundle_unexplained",
            )
        loaded = trust.check(self._held.bytes_of(path, added=added), self._appliance)
        if loaded.digest != entry.digest or loaded.manifest.name != entry.name:
            raise BundleRefused(
                f"{path.name} is not the bundle that was installed as {entry.name} {entry.version}",
                remedy="Add the bundle again; if that happens twice, check the disk.",
                code="bundle_digest",
            )
        if added and entry.signed_by not in (UNSIGNED, RELEASE):
            trust.signer(loaded, trust.keys(self._trust), {entry.signed_by or ""})
        return loaded

    # What changes it

    def add(
        self, path: Path, allow_unsigned: bool = False, allow_development: bool = False
    ) -> Entry:
        """Admit a bundle from a file; it is not active before `activate`. Adding twice is harmless.

        BundleRefused as in `trust.check` and `trust.signer`, or `bundle_golden` where its cases do
        not pass here, or `bundle_version_taken`. Whatever it raises, the shelf is as before.
        """
        data = file_bytes(path)
        loaded = trust.check(data, self._appliance)
        signed_by = self.admissible(loaded, allow_unsigned, allow_development)
        with self._locked():
            there = self._there(loaded, signed_by, other=allow_unsigned)
        if there is not None:
            return there
        if self._runs_goldens:
            self._gates.require(path, loaded, again=True)
        with self._locked():
            there = self._there(loaded, signed_by, other=allow_unsigned)
            if there is not None:  # somebody else was faster
                return there
            self._audit_change(ADD, loaded, signed_by=signed_by)
            self._put(loaded, data, signed_by)
        return self.find(loaded.manifest.name, loaded.digest)

    def admissible(
        self, loaded: Loaded, allow_unsigned: bool = False, allow_development: bool = False
    ) -> str:
        """Who signed it, as `add` would remember it; BundleRefused as `add` before golden cases."""
        self._refuse_recalled(loaded.digest, " ".join(_key(loaded)))
        signed_by = self._signer(loaded, allow_unsigned, allow_development)
        golden.require_cases(loaded)
        return signed_by

    def activate(self, name: str, which: str) -> Entry:
        """Make a version, or a digest or its first 8 digits or more, the active one of its name.

        BundleRefused where it does not load, or its golden cases have not passed on this backend.
        """
        entry = self.find(name, which)
        if not entry.active or entry.refused is not None:
            self._switch(entry)
        return self.find(name, entry.digest)

    def rollback(self, name: str) -> Entry:
        """Make the previous bundle of this name the active one again, checked as by `activate`."""
        entry = next((e for e in self.list() if e.name == name and e.previous), None)
        if entry is None:
            raise BundleRefused(
                f"{name} has no previous bundle",
                remedy="`scanside bundle list` shows what can be activated.",
                code="bundle_no_previous",
            )
        self._switch(entry, back=True)
        return self.find(name, entry.digest)

    def deactivate(self, name: str) -> Entry | None:
        """Nothing that was chosen of this name is active any more; the factory's, where there is
        one, which is returned. It may be activated again."""
        with self._locked():
            chosen = dict(self._held.chosen())
            before = chosen.pop(name, None)
            if before is not None:
                if self._audit is not None:
                    self._audit(DEACTIVATE, {"name": name, "digest": before.active})
                self._held.tables.write(ChoiceTable(chosen))
        return next((one for one in self.active() if one.name == name), None)

    def gate(self, entry: Entry, *, again: bool = False) -> golden.Gate:
        """Golden results on this backend: kept ones that passed, else (or `again`) run now."""
        return self._gates.result(self.path(entry), self.load(entry), again=again)

    def ready(self, entry: Entry) -> Loaded:
        """`load`; BundleRefused `bundle_golden` unless its golden cases pass on this backend."""
        loaded = self.load(entry)
        self._gates.require(self.path(entry), loaded)
        return loaded

    def withdraw(self, digest: str, reason: str) -> Entry | None:
        """Recall a bundle, on the shelf or not (rule 10). Who takes its place; None where it was
        not active, or nothing of its name is left. Without a runner its cases run later."""
        with self._locked():
            known = self._held.recalled()
            if digest not in known:
                if self._audit is not None:
                    self._audit(RECALL, {"digest": digest, "reason": reason})
                self._held.tables.write(RecallTable({**known, digest: Recalled(reason=reason)}))
        entry = next((one for one in self.active() if one.digest == digest), None)
        if entry is None:
            return None
        newest = sorted(self.spares(entry), key=in_order, reverse=True)
        for spare in sorted(newest, key=lambda one: one.origin == "factory"):
            try:
                self._switch(spare, proved=self._runs_goldens)
            except BundleRefused:
                continue
            return self.find(spare.name, spare.digest)
        return None

    def mend(self) -> tuple[str, ...]:
        """Make damaged tables again and set them aside (rule 8); the names of those set aside."""
        if not self._held.damaged():
            return ()
        with self._locked():
            for name in self._held.damaged():
                if self._audit is not None:
                    self._audit(MENDED, {"file": name})
            return self._held.mend()

    # Inside

    def _signer(self, loaded: Loaded, allow_unsigned: bool, allow_development: bool) -> str:
        """Fingerprint of the key that signed it, or `unsigned` where both flags allow that."""
        if allow_unsigned and loaded.signature is None:
            if not self._allow_unsigned:
                raise BundleRefused(
                    f"{' '.join(_key(loaded))} is not signed, and the settings do not allow that",
                    remedy="Add a signed bundle; only for development: allow_unsigned = true under "
                    "[bundles] in a settings file of root, or analyze --bundle FILE.",
                    code="bundle_unsigned",
                )
            return UNSIGNED
        keys = trust.keys(self._trust)
        admitted = {key.fingerprint for key in keys} if allow_development else set()
        return trust.signer(loaded, keys, admitted).fingerprint

    def _there(self, loaded: Loaded, signed_by: str, *, other: bool) -> Entry | None:
        """The same bundle where it is on the shelf and whole. `other`: whether another bundle of
        its name and version may be there; BundleRefused `bundle_version_taken` where not."""
        for entry in self.list():
            if entry.digest == loaded.digest:
                known = entry.origin == "factory" or signed_by in (entry.signed_by, UNSIGNED)
                if known and self._loads(entry):
                    return entry
            elif (entry.name, entry.version) == _key(loaded) and not other:
                raise BundleRefused(
                    f"another {entry.name} {entry.version} is on the shelf",
                    remedy="Give the bundle a new version and pack it again.",
                    code="bundle_version_taken",
                )
        return None

    def _switch(self, entry: Entry, *, back: bool = False, proved: bool = True) -> None:
        """Make it active, if its golden cases pass here, or whether or not they were run
        (`proved` is False). back: because the one before is given up."""
        loaded = self.ready(entry) if proved else self.load(entry)
        with self._locked():
            if not any(one.digest == entry.digest and not one.refused for one in self.list()):
                raise self._not_there(entry.name, entry.version, ())  # gone meanwhile
            now = next((e for e in self.active() if e.name == entry.name), None)
            before = now.digest if now else NONE
            previous = now.digest if now and not now.recalled else None
            choice = Choice(active=entry.digest, previous=previous)
            table = ChoiceTable({**self._held.chosen(), entry.name: choice})
            more = {"withdraws": before} if back else {}
            self._audit_change(ACTIVATE, loaded, before=before, **more)
            self._held.tables.write(table)

    def _put(self, loaded: Loaded, data: bytes, signed_by: str) -> None:
        """Archive, then the line that puts it on the shelf (rule 2)."""
        name, version = _key(loaded)
        target = self._held.added_path(name, version, loaded.digest)
        fresh = not target.exists()
        before = dict(self._held.installed())
        line = Installed(name=name, version=version, signed_by=signed_by)
        try:
            self._disk.make_folder(plain.real_folder(self._folder))
            self._disk.make_folder(plain.real_folder(target.parent))
            self._disk.write(target, data)
            self._held.tables.write(InstalledTable({**before, loaded.digest: line}))
        except BaseException:
            with suppress(StateUnusable):
                table = self._held.tables.read(InstalledTable)
                if table is not None and table.root != before:
                    self._held.tables.write(InstalledTable(before))
                if fresh:
                    self._disk.remove(target)
            raise

    def _refuse_recalled(self, digest: str, name: str) -> None:
        recall = self._held.recalled().get(digest)
        if recall is not None:
            raise BundleRefused(
                f"{name} was recalled: {recall.reason}",
                remedy="It never runs again. `scanside bundle list` shows what else is here.",
                code="bundle_recalled",
            )

    def _loads(self, entry: Entry) -> bool:
        try:
            self.load(entry)
        except BundleRefused:
            return False
        return True

    def find(self, name: str, which: str) -> Entry:
        """By version, or digest or its first 8 digits. BundleRefused (`bundle_not_found`)."""
        held = [entry for entry in self.list() if entry.name == name]
        found = [e for e in held if which in (e.version, e.digest)]
        if not found and len(which) >= 8:
            found = [e for e in held if e.digest.startswith(which)]
        if len(found) == 1:
            return found[0]
        raise self._not_there(name, which, tuple(found or held), several=bool(found))

    def _not_there(
        self, name: str, which: str, among: tuple[Entry, ...], *, several: bool = False
    ) -> BundleRefused:
        shown = ", ".join(f"{e.version} ({e.digest[:12]})" for e in among) or "none"
        return BundleRefused(
            f"{'several are' if several else 'there is no'} {name} {which} on the shelf: {shown}",
            remedy="Name one by its version or digest; `scanside bundle list` shows them.",
            code="bundle_not_found",
        )

    def _audit_change(self, action: str, loaded: Loaded, **more: str) -> None:
        if self._audit is not None:
            ref = loaded.ref
            self._audit(
                action, {"name": ref.name, "version": ref.version, "digest": ref.digest, **more}
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time, over all processes."""
        self._disk.make_folder(plain.real_folder(self._folder))
        with locked(self._folder / ".lock"):
            yield


def _release(version: str) -> str:
    """The three numbers of a version: 0.2.0 of 0.2.0.dev1 (PEP 440)."""
    numbers = [re.match(r"[0-9]*", part) for part in f"{version}.0.0".split(".")[:3]]
    return ".".join(match.group() or "0" for match in numbers if match)


def _key(loaded: Loaded) -> tuple[str, str]:
    return loaded.manifest.name, loaded.manifest.version
