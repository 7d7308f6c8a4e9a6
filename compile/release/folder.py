"""A repository on disk: what is served, what waits, and how one becomes the other.

    REPO/public/metadata|targets|blobs   what a web server, a mirror or a stick carries
    REPO/drafts/ROLE/metadata.json       what waits for signatures
    REPO/drafts/ROLE/KEYID.json          one signature
    REPO/numbers.json                    the highest numbers ever signed, also for sticks
    REPO/lock                            held by who changes anything

Rules.
1. Every file appears whole or not at all, and durably (appliance.store.files); so an interruption
   leaves a whole file too many at most. Blobs and releases are named by their digests and become
   something only by what names them.
2. Numbers are kept before anything is signed with them: a number is never used twice.
3. Adopting is to write the files of an Adoption in its order. Drafts go afterwards; one that is
   left by an interruption is known again and dropped. Where a new root had to come first and the
   rest is missing, the repository counts as the old one whose root still waits: publishing again
   ends it.
4. No symbolic link is followed below `public`, and no path leads out of it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from appliance.errors import ReleaseRefused
from appliance.release.record import read as read_record
from appliance.release.record import write as write_record
from appliance.store import plain
from appliance.store.files import Disk
from appliance.store.lock import locked
from compile.release import roles
from compile.release.adoption import Adoption, File, Numbers
from compile.release.drafts import Draft, Here, OneSignature, is_settled, received
from compile.release.published import EXPIRED, Read, read

PUBLIC, DRAFTS, NUMBERS = "public", "drafts", "numbers.json"
_DRAFT = "metadata.json"


class Served(Disk):
    """A disk whose files everybody may read: a web server runs as somebody else."""

    def put(self, path: Path, data: bytes) -> None:
        super().put(path, data)
        path.chmod(0o644)

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        path.chmod(0o755)


SERVED = Served()


class Folder:
    """A repository where it is made."""

    def __init__(self, root: Path, disk: Disk = SERVED) -> None:
        self.root = root
        self._disk = disk

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else changes it meanwhile, on this machine."""
        if not self.root.is_dir():
            raise ReleaseRefused(
                f"{self.root} is no repository",
                code="release_missing",
                remedy="Make one with `python -m compile release init`.",
            )
        with locked(self.root / "lock"):
            yield

    def make(self) -> None:
        """Its folders."""
        self._disk.make_folder(self.root / PUBLIC)
        self._disk.make_folder(self.root / DRAFTS)

    @property
    def files(self) -> Read:
        """What is served."""
        return reader(self.root / PUBLIC)

    def here(self, now: datetime, *, anchor: bytes | None = None) -> Here:
        """What is published and what waits (rule 3). ReleaseRefused: the first fault but age.
        `anchor`: the root to begin with, if not 1.root.json."""
        drafts = self.drafts()
        if self.files("metadata/1.root.json") is None:
            return Here(None, drafts, self.files)
        published, faults = read(self.files, now, anchor=anchor)
        if published is None and roles.ROOT in drafts:
            published, faults = read(self._before(drafts[roles.ROOT]), now, anchor=anchor)
        for fault in faults:
            if published is None or fault.code != EXPIRED:
                raise fault
        left = {role: d for role, d in drafts.items() if not is_settled(published, d)}
        return Here(published, left, self.files)

    def drafts(self) -> dict[str, Draft]:
        """All that waits, by role."""
        found = {}
        for path in sorted((self.root / DRAFTS).glob(f"*/{_DRAFT}")):
            signatures = [
                read_record(OneSignature, one.read_bytes(), str(one))
                for one in sorted(path.parent.glob("*.json"))
                if one.name != _DRAFT
            ]
            draft = Draft(path.parent.name, path.read_bytes())
            roles.kind(draft.role)
            found[draft.role] = received(draft, signatures)
        return found

    def numbers(self) -> Numbers:
        """The highest that were used."""
        try:
            return read_record(Numbers, (self.root / NUMBERS).read_bytes(), NUMBERS)
        except FileNotFoundError:
            return Numbers()

    def draft(self, draft: Draft, files: Mapping[str, bytes]) -> None:
        """Keep a draft; first what it names: path below `public` -> bytes."""
        for path, data in files.items():
            self.write(path, data)
        folder = self.root / DRAFTS / draft.role
        self._disk.make_folder(folder)
        self._disk.write(folder / _DRAFT, draft.data)

    def signature(self, role: str, signed: OneSignature) -> Path:
        """Keep one signature; where it lies."""
        path = self.root / DRAFTS / role / f"{signed.keyid}.json"
        self._disk.write(path, write_record(signed))
        return path

    def adopt(self, adoption: Adoption) -> None:
        """Rules 2 and 3."""
        self.reserve(adoption.numbers)
        for path, data in adoption.files:
            self.write(path, data)
        for role in adoption.adopted:
            self._drop(role)

    def reserve(self, numbers: Numbers) -> None:
        """Rule 2."""
        self._disk.write(self.root / NUMBERS, write_record(numbers))

    def write(self, path: str, data: bytes) -> None:
        """One file below `public`."""
        put(self._disk, self.root / PUBLIC, (path, data))

    def _before(self, root: Draft) -> Read:
        """What is served, without the root that came first (rule 3)."""
        hidden = f"metadata/{root.metadata().signed.version}.root.json"
        files = self.files
        return lambda path: None if path == hidden else files(path)

    def _drop(self, role: str) -> None:
        folder = self.root / DRAFTS / role
        self._disk.remove(folder / _DRAFT)
        for path in folder.glob("*.json"):
            self._disk.remove(path)
        with suppress(OSError):
            folder.rmdir()


def reader(public: Path) -> Read:
    """The files below a folder, by path (rule 4). ReleaseRefused (`release_link`) at a link."""

    def files(path: str) -> bytes | None:
        parts = path.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            return None
        try:
            return plain.read(public, *parts)
        except FileNotFoundError:
            return None
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.ENOTDIR, errno.EINVAL):
                raise ReleaseRefused(
                    f"{path} is no regular file, or lies behind a symbolic link",
                    code="release_link",
                    remedy="Put the file itself there.",
                ) from e
            raise

    return files


def put(disk: Disk, public: Path, file: File) -> None:
    """Write a file below a folder, with the folders that it needs."""
    path = public.joinpath(*file[0].split("/"))
    disk.make_folder(path.parent)
    disk.write(path, file[1])
