"""The bundles on this device, which of them is active, and which comes back on rollback.

    state/bundles/<name>/<version>-<digest12>.scanside   what was added
    state/bundles/installed.json    {digest: {name, version, signed_by}}: what `add` admitted
    state/bundles/active.json       {name: {active, previous}}: digests
    state/bundles/gate.json         {digest: {backend key: golden results}}
    factory/bundles/<name>.scanside in the wheel; trusted by factory/digests.json

Rules.
1. Factory bundles are on the shelf without being installed. Where active.json does not name a
   bundle that is still known here, the factory's is active.
2. A file without its line in installed.json is not on the shelf; that line is written last. So an
   `add` that fails or loses power leaves the shelf as it was.
3. What is loaded is what was checked: the bytes are read once, then every digest, the bundle digest
   recorded at install (or in the wheel), and for what came from outside the signature, each time.
4. Nothing becomes active before its golden cases have passed on the backend in use. Their result is
   kept by bundle digest and backend key, so what passed runs again only for another backend; what
   failed runs again when it is wanted, because a backend may have failed for the moment.
5. `rollback` swaps active and previous: done twice, it changes nothing.
6. Every change is told to `audit` before it is made: what cannot be audited does not happen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, RootModel, ValidationError

import appliance.factory
from appliance.bundle import archive, golden, trust
from appliance.bundle.manifest import Name, Version
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused, StateUnusable
from appliance.report import Digest, Record
from appliance.store.files import DISK, Disk
from appliance.store.lock import locked

FACTORY = Path(appliance.factory.__file__).parent
UNSIGNED: Literal["unsigned"] = "unsigned"

Audit = Callable[[str, Mapping[str, str]], None]
"""(action, detail): appends one row to the journal's audit table."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle on the shelf."""

    name: str
    version: str
    digest: str
    origin: Literal["factory", "added"]
    active: bool
    previous: bool
    gate: Literal["passed", "failed", "not run"]
    """On the runner's backend; without a runner, passed on any or failed on any."""
    signed_by: str | None
    """Fingerprint of the key that signed it; `unsigned`; None for the factory's."""


class Installed(Record):
    name: Name
    version: Version
    signed_by: Digest | Literal["unsigned"]


class Choice(Record):
    active: Digest
    previous: Digest | None = None


class InstalledTable(RootModel[dict[Digest, Installed]]):
    """installed.json."""


class ChoiceTable(RootModel[dict[Name, Choice]]):
    """active.json."""


class GateTable(RootModel[dict[Digest, dict[str, golden.Gate]]]):
    """gate.json."""


Table = TypeVar("Table", bound=BaseModel)


class Shelf:
    """Bundles under `state` and in the wheel. Every call reads the disk anew."""

    def __init__(
        self,
        state: Path,
        *,
        runner: golden.Runner | None = None,
        audit: Audit | None = None,
        disk: Disk = DISK,
        factory: Path = FACTORY,
        appliance_version: str | None = None,
    ) -> None:
        """`runner` runs golden cases; without one `add` leaves them not run."""
        self._folder = state / "bundles"
        self._trust = state / "trust"
        self._factory = factory
        self._runner = runner
        self._audit = audit
        self._disk = disk
        self._appliance = appliance_version or _release(installed_version("scanside"))

    @property
    def audited(self) -> bool:
        """Whether changes are told to an audit table."""
        return self._audit is not None

    # What is here

    def list(self) -> tuple[Entry, ...]:
        """Every bundle, by name, then version, then digest."""
        installed = self._installed()
        factory = self._factory_digests()
        choices = self._choices(installed, factory)
        gates = self._read("gate.json", GateTable).root

        def entry(name: str, version: str, digest: str, signed_by: str | None) -> Entry:
            choice = choices.get(name)
            return Entry(
                name=name,
                version=version,
                digest=digest,
                origin="factory" if signed_by is None else "added",
                active=choice is not None and choice.active == digest,
                previous=choice is not None and choice.previous == digest,
                gate=self._verdict(gates.get(digest, {})),
                signed_by=signed_by,
            )

        entries = {f.digest: entry(name, f.version, f.digest, None) for name, f in factory.items()}
        for digest, line in installed.items():
            entries.setdefault(digest, entry(line.name, line.version, digest, line.signed_by))
        return tuple(sorted(entries.values(), key=_order))

    def active(self) -> tuple[Entry, ...]:
        """The active bundle of each name, by name."""
        return tuple(entry for entry in self.list() if entry.active)

    def path(self, entry: Entry) -> Path:
        """Where its file lies."""
        return self._path(entry)

    def load(self, entry: Entry) -> Loaded:
        """The bundle's bytes, checked (rule 3). BundleRefused says what does not fit."""
        path = self._path(entry)
        loaded = trust.check(_bytes(path), self._appliance)
        if loaded.digest != entry.digest or loaded.manifest.name != entry.name:
            raise BundleRefused(
                f"{path.name} is not the bundle that was installed as {entry.name} {entry.version}",
                remedy="Add the bundle again; if that happens twice, check the disk.",
                code="bundle_digest",
            )
        if entry.origin == "added" and entry.signed_by != UNSIGNED:
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
        data = _bytes(path)
        loaded = trust.check(data, self._appliance)
        if allow_unsigned and loaded.signature is None:
            signed_by: str = UNSIGNED
        else:
            keys = trust.keys(self._trust)
            admitted = {key.fingerprint for key in keys} if allow_development else set()
            signed_by = trust.signer(loaded, keys, admitted).fingerprint
        golden.require_cases(loaded)
        with self._locked():
            for entry in self.list():
                if entry.digest == loaded.digest:
                    known = entry.origin == "factory" or signed_by in (entry.signed_by, UNSIGNED)
                    if known and self._loads(entry):
                        return entry
                elif (entry.name, entry.version) == _key(loaded) and not allow_unsigned:
                    raise BundleRefused(
                        f"another {entry.name} {entry.version} is on the shelf",
                        remedy="Give the bundle a new version and pack it again.",
                        code="bundle_version_taken",
                    )
            result = None
            if self._runner is not None:
                with self._runner.open(loaded) as infer:
                    result = golden.gate(loaded, infer)
                _require_passed(loaded, result)
            self._audit_change("bundle add", loaded, signed_by=signed_by)
            self._put(loaded, data, signed_by, result)
        return self._find(loaded.manifest.name, loaded.digest)

    def activate(self, name: str, which: str) -> Entry:
        """Make a version, or a digest or its first 8 digits or more, the active one of its name.

        BundleRefused where it does not load, or its golden cases have not passed on this backend.
        """
        with self._locked():
            entry = self._find(name, which)
            if not entry.active:
                self._switch(entry)
        return self._find(name, entry.digest)

    def rollback(self, name: str) -> Entry:
        """Make the previous bundle of this name the active one again, checked as by `activate`."""
        with self._locked():
            entry = next((e for e in self.list() if e.name == name and e.previous), None)
            if entry is None:
                raise BundleRefused(
                    f"{name} has no previous bundle",
                    remedy="`scanside bundle list` shows what can be activated.",
                    code="bundle_no_previous",
                )
            self._switch(entry)
        return self._find(name, entry.digest)

    def gate(self, entry: Entry, *, again: bool = False) -> golden.Gate:
        """Golden results on this backend: kept ones that passed, else (or `again`) run now."""
        with self._locked():
            return self._kept_gate(entry, self.load(entry), again=again)

    def ready(self, entry: Entry) -> Loaded:
        """`load`; BundleRefused `bundle_golden` unless its golden cases pass on this backend."""
        with self._locked():
            loaded = self.load(entry)
            _require_passed(loaded, self._kept_gate(entry, loaded))
            return loaded

    # Inside

    def _switch(self, entry: Entry) -> None:
        loaded = self.load(entry)
        if self._runner is not None:
            _require_passed(loaded, self._kept_gate(entry, loaded))
        elif entry.gate != "passed":
            raise BundleRefused(
                f"{entry.name} {entry.version}: its golden cases have not passed here",
                remedy="`scanside bundle activate` runs them first.",
                code="bundle_golden",
            )
        now = next((e for e in self.list() if e.name == entry.name and e.active), None)
        self._audit_change("bundle activate", loaded, before=now.digest if now else "-")
        table = self._read("active.json", ChoiceTable).root
        choice = Choice(active=entry.digest, previous=now.digest if now else None)
        self._write("active.json", ChoiceTable({**table, entry.name: choice}))

    def _put(self, loaded: Loaded, data: bytes, signed_by: str, result: golden.Gate | None) -> None:
        """Archive, golden result, then the line that puts it on the shelf (rule 2)."""
        name, version = _key(loaded)
        target = self._added_path(name, version, loaded.digest)
        fresh = not target.exists()
        before = self._installed()
        line = Installed(name=name, version=version, signed_by=signed_by)
        try:
            self._disk.make_folder(target.parent)
            self._disk.write(target, data)
            self._keep_gate(loaded.digest, result)
            self._write("installed.json", InstalledTable({**before, loaded.digest: line}))
        except BaseException:
            with suppress(StateUnusable):
                if self._installed() != before:
                    self._write("installed.json", InstalledTable(before))
                if fresh:
                    self._disk.remove(target)
            raise

    def _kept_gate(self, entry: Entry, loaded: Loaded, *, again: bool = False) -> golden.Gate:
        if self._runner is None:
            raise ValueError("golden cases need a runner")
        kept = self._read("gate.json", GateTable).root.get(entry.digest, {}).get(self._runner.key)
        if kept is not None and kept.passed and not again:
            return kept
        with self._runner.open(loaded) as infer:
            result = golden.gate(loaded, infer)
        self._keep_gate(entry.digest, result)
        return result

    def _keep_gate(self, digest: str, result: golden.Gate | None) -> None:
        if result is None or self._runner is None:
            return
        table = self._read("gate.json", GateTable).root
        of_bundle = {**table.get(digest, {}), self._runner.key: result}
        self._write("gate.json", GateTable({**table, digest: of_bundle}))

    def _verdict(self, kept: Mapping[str, golden.Gate]) -> Literal["passed", "failed", "not run"]:
        if self._runner is not None:
            kept = {key: gate for key, gate in kept.items() if key == self._runner.key}
        if not kept:
            return "not run"
        return "passed" if any(gate.passed for gate in kept.values()) else "failed"

    def _loads(self, entry: Entry) -> bool:
        try:
            self.load(entry)
        except BundleRefused:
            return False
        return True

    def _find(self, name: str, which: str) -> Entry:
        held = [entry for entry in self.list() if entry.name == name]
        found = [e for e in held if which in (e.version, e.digest)]
        if not found and len(which) >= 8:
            found = [e for e in held if e.digest.startswith(which)]
        if len(found) == 1:
            return found[0]
        shown = ", ".join(f"{e.version} ({e.digest[:12]})" for e in found or held) or "none"
        raise BundleRefused(
            f"{'several are' if found else 'there is no'} {name} {which} on the shelf: {shown}",
            remedy="Name one by its version or digest; `scanside bundle list` shows them.",
            code="bundle_not_found",
        )

    def _choices(
        self, installed: Mapping[str, Installed], factory: Mapping[str, trust.FactoryBundle]
    ) -> dict[str, Choice]:
        """active.json without what is no longer known, the factory's where nothing is left."""
        known = set(installed) | {f.digest for f in factory.values()}
        choices = {name: Choice(active=f.digest) for name, f in factory.items()}
        for name, choice in self._read("active.json", ChoiceTable).root.items():
            previous = choice.previous if choice.previous in known else None
            if choice.active in known:
                choices[name] = Choice(active=choice.active, previous=previous)
        return choices

    def _audit_change(self, action: str, loaded: Loaded, **more: str) -> None:
        if self._audit is not None:
            ref = loaded.ref
            self._audit(
                action, {"name": ref.name, "version": ref.version, "digest": ref.digest, **more}
            )

    # Files

    def _path(self, entry: Entry) -> Path:
        if entry.origin == "factory":
            return self._factory / "bundles" / f"{entry.name}{archive.SUFFIX}"
        return self._added_path(entry.name, entry.version, entry.digest)

    def _added_path(self, name: str, version: str, digest: str) -> Path:
        return self._folder / name / f"{version}-{digest[:12]}{archive.SUFFIX}"

    def _installed(self) -> dict[str, Installed]:
        return self._read("installed.json", InstalledTable).root

    def _factory_digests(self) -> Mapping[str, trust.FactoryBundle]:
        return trust.factory_digests(_bytes(self._factory / "digests.json"))

    def _read(self, name: str, table: type[Table]) -> Table:
        path = self._folder / name
        try:
            return table.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return table.model_validate({})
        except OSError as e:
            raise StateUnusable(f"{path}: {e.strerror}") from e
        except ValidationError as e:
            raise StateUnusable(
                f"{path} is damaged",
                remedy=f"Restore {path} from a backup, or remove it and add the bundles again.",
            ) from e

    def _write(self, name: str, table: BaseModel) -> None:
        self._disk.make_folder(self._folder)
        self._disk.write(self._folder / name, table.model_dump_json(indent=1).encode() + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time, over all processes."""
        self._disk.make_folder(self._folder)
        with locked(self._folder / ".lock"):
            yield


def _bytes(path: Path) -> bytes:
    """The file's bytes, no more than a bundle may have and one."""
    try:
        with path.open("rb") as file:
            # its size first: a read of the most there may be would take that much memory
            return file.read(min(os.fstat(file.fileno()).st_size, archive.MAX_BYTES) + 1)
    except OSError as e:
        raise BundleRefused(
            f"{path}: {e.strerror}",
            remedy="Check that the path names a readable .scanside file.",
            code="bundle_unreadable",
        ) from e


def _release(version: str) -> str:
    """The three numbers of a version: 0.2.0 of 0.2.0.dev1 (PEP 440)."""
    numbers = [re.match(r"[0-9]*", part) for part in f"{version}.0.0".split(".")[:3]]
    return ".".join(match.group() or "0" for match in numbers if match)


def _key(loaded: Loaded) -> tuple[str, str]:
    return loaded.manifest.name, loaded.manifest.version


def _order(entry: Entry) -> tuple[str, tuple[int, ...], str]:
    return entry.name, tuple(map(int, entry.version.split("."))), entry.digest


def _require_passed(loaded: Loaded, result: golden.Gate) -> None:
    if not result.passed:
        name = " ".join(_key(loaded))
        raise BundleRefused(
            f"{name}: golden cases do not pass on this backend: {result.one_line()}",
            remedy="Use another backend ([work] backend), or a bundle made for this one.",
            code="bundle_golden",
        )
