"""What is kept of earlier exams: priors/<person key>/<report id>.entry under the state folder.

Rules
- An entry is bytes here (appliance/prior/packed.py reads them); which person and report it is of,
  its path says. Both are keyed (`naming`), so no name there can be computed from a UID or an id.
  Folders are 0700 and files 0600, and no symbolic link is followed.
- One entry a standing final report. A revision brings its own and takes those of the reports that
  it replaces; first the new one, so that no power cut leaves none. Where one leaves both, doing it
  again takes the old one. A withdrawal takes it.
- Entries of another site key than the one in use fit nobody: no id gives their keys any more. The
  fingerprint of their key lies beside them, and where it is another one all of them go.
- Two keys of one person are merged once and for all: `priors/<key>.into` names the key under which
  what comes with this one is kept too, step by step to one that has no such file. It is written
  before the first entry moves, and what is asked of a person is asked of all keys that lead there,
  so no power cut hides an exam. It goes with the person, or with the site key.
- What goes for its age or for room goes the longest stored first. How long is time that was itself
  seen to pass (retain/age.py); of those seen as long, the order of writing counts.
- All that changes something here holds one lock, and so does who commits what was made of an entry
  (`held`): then nothing is said of an entry that a person had forgotten meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import StateUnusable
from appliance.store import plain
from appliance.store.files import DISK, TEMP_SUFFIX, Disk
from appliance.store.lock import locked

FOLDER: Final = "priors"
SUFFIX: Final = ".entry"
KEY_FILE: Final = "key"
"""The fingerprint of the site key (store/site_key.py) that all entries were made with."""
LOCK_FILE: Final = ".lock"
INTO: Final = ".into"
"""Of a key that was merged: its file holds the key that takes its place."""
MOST_BYTES: Final = 5_000_000
"""Of an entry; what is larger was written by nobody here."""
_PERSON: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})" + re.escape(SUFFIX)
)


@dataclass(frozen=True, slots=True)
class Kept:
    """One entry, as its path and its file say."""

    person: str
    report_id: uuid.UUID
    size: int
    """Bytes."""
    written: float
    """Seconds since 1970, by the wall clock of then."""

    @property
    def name(self) -> str:
        """Of its file: what its age is kept under."""
        return f"{self.report_id}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class Swept:
    """How many entries went, and why."""

    aged: int = 0
    over: int = 0
    """All together were larger than they may be."""
    short: int = 0
    """Too little was free."""


class Priors:
    """The entries of one state folder."""

    def __init__(self, state: Path, disk: Disk = DISK) -> None:
        self._state, self._disk = state, disk
        self._root = state / FOLDER

    def keep(
        self,
        person: str,
        report_id: uuid.UUID,
        packed: bytes,
        *,
        fingerprint: str,
        replaces: Collection[uuid.UUID] = (),
    ) -> int:
        """An entry, durable. How many of another site key went, which is for the audit.

        fingerprint: of the site key that named it; replaces: the reports whose place this one
        takes. ValueError for what cannot be an entry, StateUnusable as `Disk.write`.
        """
        if not _PERSON.fullmatch(person) or not 0 < len(packed) <= MOST_BYTES:
            raise ValueError("an entry has the key of a person, and 1 to 5,000,000 bytes")
        with self.held():
            gone = self._of_key(fingerprint)
            person = self.stands_for(person)
            folder = plain.real_folder(self._root / person)
            self._disk.make_folder(folder)
            self._disk.settle(folder.parent)  # it may be there from a try that a power cut ended
            self._disk.write(folder / f"{report_id}{SUFFIX}", packed)
            old = {*replaces, report_id}  # whose id was corrected, the report may be another's too
            here = person, report_id
            self._remove(
                one
                for one in self.all()
                if one.report_id in old and (one.person, one.report_id) != here
            )
            return gone

    def withdraw(self, reports: Collection[uuid.UUID]) -> int:
        """Take the entries of reports that stand no more; how many there were."""
        if not self._is_there():
            return 0
        with self.held():
            return self._remove(one for one in self.all() if one.report_id in reports)

    def read(self, one: Kept) -> bytes | None:
        """The bytes of an entry; None where it is not there any more, or cannot be read."""
        with contextlib.suppress(OSError):
            found = plain.read(self._state, FOLDER, one.person, one.name, most=MOST_BYTES)
            return found if len(found) <= MOST_BYTES else None
        return None

    def of_person(self, person: str) -> tuple[Kept, ...]:
        """All entries of one person, whichever of merged keys is given, by key and report."""
        return tuple(one for key in self._keys_of(person) for one in self._in(key))

    def merged(self) -> dict[str, str]:
        """Key that was merged -> the one that takes its place."""
        found = {}
        for name in _names(self._root):
            person = name.removesuffix(INTO)
            if person == name or not _PERSON.fullmatch(person):
                continue
            with contextlib.suppress(OSError):
                into = plain.read(self._state, FOLDER, name, most=64).decode("ascii", "replace")
                if _PERSON.fullmatch(into):
                    found[person] = into
        return found

    def stands_for(self, person: str) -> str:
        """The key under which entries of this one are kept."""
        return _last(self.merged(), person)

    def holds(self, person: str, report_id: uuid.UUID) -> bool:
        """Whether an entry is there: for who commits what was made of it (`held`)."""
        return any(one.report_id == report_id for one in self.of_person(person))

    def all(self) -> tuple[Kept, ...]:
        """All entries, by person and report."""
        return tuple(
            one
            for person in _names(self._root)
            if _PERSON.fullmatch(person)
            for one in self._in(person)
        )

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(one.size for one in self.all())

    def forget(self, person: str) -> tuple[uuid.UUID, ...]:
        """Take all entries of one person, and that keys of theirs were merged; the reports that
        they were of."""
        if not self._is_there():
            return ()
        with self.held():
            found, keys = self.of_person(person), self._keys_of(person)
            self._remove(found)
            self._part(keys)
            return tuple(one.report_id for one in found)

    def merge(self, person: str, into: str) -> int:
        """From now on the entries of one person are another's, and so is what comes under the old
        key; how many were moved, 0 where the first has none. The bytes stay as they are, so what
        was compared with them is found again. Merged the other way round again, the key changes
        under which both are kept."""
        if person == into or not (_PERSON.fullmatch(person) and _PERSON.fullmatch(into)):
            raise ValueError("two people have two keys")
        if not self.of_person(person):
            return 0
        with self.held():
            first, last = self.stands_for(person), self.stands_for(into)
            if first == last == person:
                self._part([into])
                last = into
            if first != last:
                self._disk.write(self._root / f"{first}{INTO}", last.encode())
            target = plain.real_folder(self._root / last)
            self._disk.make_folder(target)
            self._disk.settle(self._root)
            moved = [one for one in self.of_person(last) if one.person != last]
            for one in moved:
                self._disk.move(self._root / one.person / one.name, target / one.name)
                self._clean(one.person)
            return len(moved)

    def of_key(self, fingerprint: str) -> int:
        """Take all entries where they are of another site key than this; how many there were."""
        if not self._is_there():
            return 0
        with self.held():
            return self._of_key(fingerprint)

    def sweep(
        self,
        age_s: Callable[[str], float],
        *,
        most_s: float,
        most_bytes: float,
        short: Callable[[], bool],
    ) -> Swept:
        """Take what is older than `most_s`; then the longest stored while all are larger than
        `most_bytes`, or while `short` says that too little is free. age_s: of `Kept.name`."""
        if not self._is_there():
            return Swept()
        with self.held():
            self._clear_temporary()
            left = sorted(self.all(), key=lambda k: (-age_s(k.name), k.written, k.name))
            aged = [one for one in left if age_s(one.name) > most_s]
            self._remove(aged)
            left = left[len(aged) :]
            total, over = sum(one.size for one in left), 0
            while left and total > most_bytes:
                total -= left[0].size
                over += self._remove([left.pop(0)])
            count = 0
            while left and short():
                count += self._remove([left.pop(0)])
            return Swept(len(aged), over, count)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else changes anything here meanwhile. No method that changes something may be
        called inside."""
        self._disk.make_folder(plain.real_folder(self._root))
        with locked(self._root / LOCK_FILE):
            yield

    def _keys_of(self, person: str) -> list[str]:
        """All keys that lead to the one that stands for this one; none for what is no key."""
        if not _PERSON.fullmatch(person):
            return []
        merged = self.merged()
        last = _last(merged, person)
        return sorted(key for key in {*merged, last} if _last(merged, key) == last)

    def _part(self, keys: Iterable[str]) -> None:
        """What was merged into another key is not any more."""
        for key in keys:
            self._disk.remove(self._root / f"{key}{INTO}")

    def _is_there(self) -> bool:
        return plain.real_folder(self._root).is_dir()

    def _in(self, person: str) -> Iterator[Kept]:
        """The entries in a folder, none of what is a link."""
        folder = self._root / person
        for name in _names(folder):
            found = _NAME.fullmatch(name)
            if found is None:
                continue
            with contextlib.suppress(OSError):
                facts = os.lstat(folder / name)
                if stat.S_ISREG(facts.st_mode):
                    yield Kept(person, uuid.UUID(found[1]), facts.st_size, facts.st_mtime)

    def _of_key(self, fingerprint: str) -> int:
        """The same as `of_key`, under the lock. The key is named before there is anything of it."""
        if self._key() == fingerprint:
            return 0
        found = self.all()
        self._remove(found)
        self._part(self.merged())
        self._disk.write(self._root / KEY_FILE, fingerprint.encode())
        return len(found)

    def _key(self) -> str | None:
        """None where none was written. One that cannot be read is no other key: what was kept for
        years would go because of a bad sector."""
        try:
            return plain.read(self._state, FOLDER, KEY_FILE, most=64).decode("ascii", "replace")
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StateUnusable(f"{self._root / KEY_FILE}: {e.strerror}") from e

    def _remove(self, entries: Iterable[Kept]) -> int:
        count = 0
        for one in entries:
            folder = plain.real_folder(self._root / one.person)
            self._disk.remove(folder / one.name)
            self._clean(one.person)
            count += 1
        return count

    def _clean(self, person: str) -> None:
        """Take the folder of a person of whom nothing is left; one that comes back is empty."""
        with contextlib.suppress(OSError):
            (self._root / person).rmdir()

    def _clear_temporary(self) -> None:
        """What writing left when the power went: nobody writes now."""
        people = [name for name in _names(self._root) if _PERSON.fullmatch(name)]
        for folder in (self._root, *(self._root / person for person in people)):
            for name in _names(folder):
                if name.endswith(TEMP_SUFFIX):
                    self._disk.remove(folder / name)
        for person in people:
            self._clean(person)


def _last(merged: Mapping[str, str], person: str) -> str:
    """Where the way from this key ends; one that runs in a circle ends before its second round."""
    way = [person]
    while (into := merged.get(way[-1])) is not None and into not in way:
        way.append(into)
    return way[-1]


def _names(folder: Path) -> list[str]:
    """What lies in a folder of ours; nothing where it is none, or a link."""
    if folder.is_symlink():
        return []
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        raise StateUnusable(f"{folder}: {e.strerror}") from e
