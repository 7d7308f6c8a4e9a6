"""The spool: the truth for slices. One file is one acknowledged instance.

    <state>/spool/<study uid>/<series uid>/<sop uid>.dcm    acknowledged, Part 10 (PS3.10 7)
    <state>/incoming/                                       being received; nothing here is owed
    <state>/quarantine/<id>.dcm and <id>.json               bytes we could not accept, and why

Rules
- A UID becomes part of a path only after `checked_uid`: 1 to 64 of 0-9 and dot (PS3.5 9.1), no
  empty component. A leading zero in a component violates PS3.5 9.1 too, but scanners make it and
  it is harmless here, so it is tolerated.
- An instance is there whole and durable, or not there. No file is ever overwritten: the same
  content again is `duplicate`, other content under a known UID is refused with 0x0111 (PS3.7
  annex C, duplicate SOP instance), and the first one stays.
- Known means known in its series: one SOP Instance UID in two series is two files (PS3.5 9 forbids
  it, some exporters do it), and each series is judged by itself.
- What is stored between two looks of the deletion is never deleted: `store` holds the spool's lock
  shared, `delete` holds it exclusively, and deletes only what the caller knows.
- Names that are not ours are not listed and not touched; nor is a symbolic link followed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from appliance.errors import InstanceRefused, Poisoned, StateUnusable
from appliance.report import SeriesKey
from appliance.store.files import DISK, TEMP_SUFFIX, Disk
from appliance.store.lock import locked

DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 annex C
CANNOT_UNDERSTAND = 0xC000  # PS3.4 B.2.3
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_SUFFIX = ".dcm"


def checked_uid(uid: str | None, what: str) -> str:
    """The UID, fit to be part of a path; InstanceRefused (C000) names `what` is wrong.

    The text of the refusal never repeats the value, which a sender may choose freely.
    """
    if not uid:
        raise _bad_uid(f"{what} is missing or empty")
    if len(uid) > 64:
        raise _bad_uid(f"{what} has {len(uid)} characters, 64 are allowed")
    if not _UID.fullmatch(uid):
        raise _bad_uid(f"{what} is not a UID: digits with single dots between are allowed")
    return uid


def _bad_uid(text: str) -> InstanceRefused:
    return InstanceRefused(
        text,
        status=CANNOT_UNDERSTAND,
        code="bad_uid",
        remedy="Correct the UIDs (PS3.5 9.1) at the sender; the bytes are in the quarantine.",
    )


class Spool:
    """Instances on disk. Safe for any number of processes at once. `root` is the state folder."""

    def __init__(self, root: Path, disk: Disk = DISK) -> None:
        self.root = root
        self.disk = disk
        self._series = root / "spool"
        self._incoming = root / "incoming"
        self._quarantine = root / "quarantine"
        self._durable: dict[Path, int] = {}
        """Folder -> its inode: this process has made sure of its name."""
        for folder in (self._series, self._incoming, self._quarantine):
            disk.make_folder(folder)

    def incoming_path(self) -> Path:
        """A new name for an instance on its way in, on the file system of the spool."""
        return self._incoming / f"{uuid.uuid4().hex}{TEMP_SUFFIX}"

    def clear_incoming(self, idle_s: float) -> int:
        """Remove what was never acknowledged and did not grow for `idle_s`; how many that were.

        Age tells, because a receiver that drains may still be writing while the next one starts.
        """
        count = 0
        for path in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its receiver was faster
                if time.time() - path.stat().st_mtime < idle_s:
                    continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                self.disk.remove(path)
            count += 1
        return count

    def store(
        self,
        temp: Path,
        study: str | None,
        series: str | None,
        sop: str | None,
        same: Callable[[Path, Path], bool],
    ) -> Literal["stored", "duplicate"]:
        """Make the finished file `temp` the acknowledged instance. Durable when this returns.

        `same(temp, stored)` says whether two files are the same image; it is asked only where the
        UID is known already, and may raise. `temp` is gone afterwards, unless InstanceRefused says
        bad_uid, or `same` raised.
        """
        folder = self.folder(
            SeriesKey(
                checked_uid(study, "StudyInstanceUID"), checked_uid(series, "SeriesInstanceUID")
            )
        )
        path = folder / f"{checked_uid(sop, 'SOPInstanceUID')}{_SUFFIX}"
        with self._locked(shared=True):
            self._make_durable(folder.parent)
            self._make_durable(folder)
            try:
                self.disk.adopt(temp, path)
            except FileExistsError:
                equal = same(temp, path)
            else:
                return "stored"
            self.disk.settle(folder)  # the first sender's name may not be on disk yet
        self.disk.remove(temp)
        if equal:
            return "duplicate"
        raise InstanceRefused(
            "SOP instance is known with other content; the first one stays",
            status=DUPLICATE_SOP_INSTANCE,
            code="duplicate_sop_instance",
            remedy="Send changed images under new SOP Instance UIDs (PS3.5 9).",
        )

    def _make_durable(self, folder: Path) -> None:
        """Make a folder. Another process may have made it, and not have synced its name yet."""
        self.disk.make_folder(folder)
        inode = folder.stat().st_ino  # another one where it was deleted meanwhile
        if self._durable.get(folder) != inode:
            self.disk.settle(folder.parent)
            self._durable[folder] = inode

    def folder(self, key: SeriesKey) -> Path:
        """Where the series lies; checks the UIDs again, because paths are made of them."""
        study = checked_uid(key.study, "StudyInstanceUID")
        return self._series / study / checked_uid(key.series, "SeriesInstanceUID")

    def series(self) -> list[SeriesKey]:
        """Every series with a folder, sorted."""
        return sorted(
            SeriesKey(study.name, series.name)
            for study in _folders(self._series)
            for series in _folders(Path(study.path))
        )

    def instances(self, key: SeriesKey) -> dict[str, Path]:
        """SOP Instance UID -> path, sorted by UID; empty where the series is not there."""
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder(key)) as entries:
            for entry in entries:
                uid, suffix = os.path.splitext(entry.name)
                if entry.is_symlink():
                    continue  # not ours: an instance is a file
                if suffix == _SUFFIX and len(uid) <= 64 and _UID.fullmatch(uid):
                    found[uid] = Path(entry.path)
        return dict(sorted(found.items()))

    def arrived(self, path: Path) -> float | None:
        """When an instance was acknowledged, seconds since 1970; None where it is gone."""
        try:
            return path.stat().st_mtime
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StateUnusable(f"{path}: {e.strerror}") from e

    def read(self, path: Path) -> bytes | None:
        """The bytes of an instance; None where it is gone, Poisoned where its block is bad."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as e:
            if e.errno == errno.EIO:  # the others go on
                raise Poisoned(f"{path.name}: {e.strerror}") from e
            raise StateUnusable(f"{path}: {e.strerror}") from e

    def size(self, path: Path) -> int | None:
        """Bytes of an instance; None where it is gone."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StateUnusable(f"{path}: {e.strerror}") from e

    def changed(self, key: SeriesKey) -> int | None:
        """When an instance last came or went, in ns of the clock; None where it is not there."""
        try:
            return self.folder(key).stat().st_mtime_ns
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StateUnusable(f"{key.series}: {e.strerror}") from e

    def quarantine(self, temp: Path, why: str) -> Path:
        """Keep bytes that cannot be accepted, with the reason beside them. `why` has no PHI."""
        path = self._quarantine / f"{uuid.uuid4().hex}{_SUFFIX}"
        size = temp.stat().st_size if temp.exists() else 0
        facts = {"at": time.time(), "why": why, "bytes": size}
        self.disk.write(path.with_suffix(".json"), json.dumps(facts).encode())
        if temp.exists():
            self.disk.adopt(temp, path)
        return path

    def quarantined(self) -> list[tuple[Path, float]]:
        """Every file in the quarantine and when it came, oldest first."""
        files = []
        for path in self._quarantine.iterdir():
            with contextlib.suppress(FileNotFoundError):  # renamed or deleted meanwhile
                files.append((path, path.stat().st_mtime))
        return sorted(files, key=lambda pair: (pair[1], pair[0].name))

    def delete(self, key: SeriesKey, expected: int | None = None) -> bool:
        """Delete a series at one stroke. False, and nothing happens, where more came meanwhile.

        expected: how many instances the caller knows of; None deletes whatever is there.
        """
        folder = self.folder(key)
        grave = self._incoming / f"{uuid.uuid4().hex}{TEMP_SUFFIX}"
        with self._locked(shared=False):
            found = len(self.instances(key))
            if found and expected is not None and found != expected:
                return False
            try:
                self.disk.move(folder, grave)
            except FileNotFoundError:
                return True
            with contextlib.suppress(OSError):  # another series of the study is still there
                folder.parent.rmdir()
        shutil.rmtree(grave, ignore_errors=True)
        return True

    def _locked(self, *, shared: bool) -> contextlib.AbstractContextManager[None]:
        return locked(self._series / ".lock", shared=shared)


def _folders(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [
                e
                for e in entries
                if e.is_dir(follow_symlinks=False) and len(e.name) <= 64 and _UID.fullmatch(e.name)
            ]
    except FileNotFoundError:
        return []
