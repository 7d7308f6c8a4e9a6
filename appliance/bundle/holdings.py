"""What lies on the shelf and what is known of it: the wheel, the tables, the audit, the files.

Rules
- Every call reads the disk anew.
- A damaged table is made again from the audit and from what lies here; `mend` writes that.
- No symbolic link below the state folder is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from appliance.bundle import archive, trust
from appliance.bundle.history import History
from appliance.bundle.standing import Standing, standing
from appliance.bundle.tables import (
    FILES,
    FOLDER,
    Choice,
    ChoiceTable,
    Installed,
    InstalledTable,
    Recalled,
    RecallTable,
    Tables,
)
from appliance.errors import BundleRefused
from appliance.store import plain


class Holdings:
    """The shelf of a state folder and a wheel, for `Shelf` alone."""

    def __init__(
        self,
        state: Path,
        factory: Path,
        tables: Tables,
        known: Callable[[], History],
        *,
        unsigned: bool,
    ) -> None:
        """`known`: what the audit knows. `unsigned`: whether what has no signature may count."""
        self.tables = tables
        self.known = known
        self._state = state
        self._folder = state / FOLDER
        self._factory = factory
        self._unsigned = unsigned

    def factory(self) -> Mapping[str, trust.FactoryBundle]:
        """Name -> the bundle of the wheel."""
        return trust.factory_digests(file_bytes(self._factory / "digests.json"))

    def standing(self) -> Standing:
        """What counts, and what is active."""
        return standing(
            {name: one.digest for name, one in self.factory().items()},
            self.installed(),
            self._said(),
            self.known(),
            unsigned=self._unsigned,
            recalled=self.recalled(),
        )

    def installed(self) -> Mapping[str, Installed]:
        """installed.json; where it is damaged, what the audit knows and lies here."""
        table = self.tables.read(InstalledTable)
        if table is not None:
            return table.root
        known = self.known()
        found = {
            digest: lines[-1]
            for digest, lines in known.added.items()
            if self.added_path(lines[-1].name, lines[-1].version, digest).exists()
        }
        return {**self._signed_here(), **found} if known.anew else found

    def chosen(self) -> Mapping[str, Choice]:
        """active.json; where it is damaged, what the audit says."""
        said = self._said()
        if said is not None:
            return said
        known = self.known().chosen
        return {name: one for name, one in self.standing().choices.items() if name in known}

    def recalled(self) -> Mapping[str, Recalled]:
        """What recalled.json or the audit says: one of both is enough."""
        table = self.tables.read(RecallTable)
        return {**self.known().recalled, **(table.root if table is not None else {})}

    def damaged(self) -> tuple[str, ...]:
        """The files of the tables that are."""
        found = [name for model, name in FILES.items() if self.tables.read(model) is None]
        if self._said() is None and FILES[ChoiceTable] not in found:
            found.append(FILES[ChoiceTable])
        return tuple(found)

    def problems(self) -> tuple[str, ...]:
        """What is wrong, each a sentence without its stop."""
        held = self.standing()
        damaged = [f"{self._folder / name} is damaged or missing" for name in self.damaged()]
        recalled = self.recalled()  # nothing is wrong with a shelf that keeps what was recalled
        lines = [(held.lines[d], why) for d, why in held.refused.items() if d not in recalled]
        against = [f"{line.name} {line.version} does not count: {why}" for line, why in lines]
        return (*damaged, *held.contrary, *sorted(against))

    def mend(self) -> tuple[str, ...]:
        """Write the damaged tables anew; the names of the files that were set aside. The caller
        holds the lock."""
        held = self.standing()
        known = self.recalled()
        lines = {d: one for d, one in held.lines.items() if d in known or d not in held.refused}
        chosen, recalled = ChoiceTable(dict(self.chosen())), RecallTable(dict(self.recalled()))
        tables = (InstalledTable(lines), chosen, recalled)
        damaged = self.damaged()
        return tuple(self.tables.write(one) or "" for one in tables if FILES[type(one)] in damaged)

    # Files

    def path(self, name: str, version: str, digest: str, *, added: bool) -> Path:
        """Where a bundle lies."""
        if not added:
            return self._factory / "bundles" / f"{name}{archive.SUFFIX}"
        return self.added_path(name, version, digest)

    def added_path(self, name: str, version: str, digest: str) -> Path:
        """Where a bundle lies that was added."""
        return self._folder / name / f"{version}-{digest[:12]}{archive.SUFFIX}"

    def bytes_of(self, path: Path, *, added: bool) -> bytes:
        """Of a bundle on the shelf or in the wheel; BundleRefused `bundle_unreadable`."""
        if not added:
            return file_bytes(path)
        try:
            parts = (FOLDER, path.parent.name, path.name)
            return plain.read(self._state, *parts, most=archive.MAX_BYTES)
        except OSError as e:
            raise _unreadable(path, e) from e

    def _said(self) -> Mapping[str, Choice] | None:
        """active.json; None where it is damaged, or says nothing although somebody has chosen."""
        table = self.tables.read(ChoiceTable)
        if table is None or (not table.root and self.known().chosen):
            return None
        return table.root

    def _signed_here(self) -> dict[str, Installed]:
        """What lies here with a signature for release, whatever the tables say."""
        keys = trust.keys(self._state / "trust")
        found = {}
        for path in sorted(self._folder.glob(f"*/*{archive.SUFFIX}")):
            with suppress(BundleRefused):
                loaded = trust.check(self.bytes_of(path, added=True))
                found[loaded.digest] = Installed(
                    name=loaded.manifest.name,
                    version=loaded.manifest.version,
                    signed_by=trust.signer(loaded, keys).fingerprint,
                )
        return found


def file_bytes(path: Path) -> bytes:
    """The bytes of a file that somebody named, no more than a bundle may have and one.

    BundleRefused `bundle_unreadable`.
    """
    try:
        real = path.resolve()
        return plain.read(real.parent, real.name, most=archive.MAX_BYTES)
    except OSError as e:
        raise _unreadable(path, e) from e


def _unreadable(path: Path, error: OSError) -> BundleRefused:
    return BundleRefused(
        f"{path}: {error.strerror}",
        remedy="Check that the path names a readable .scanside file.",
        code="bundle_unreadable",
    )
