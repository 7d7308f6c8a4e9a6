"""A disk whose power can be cut before any step, and a report to commit."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.store.files import Disk
from rigs.reports import make_report, noon

__all__ = ["make_report", "noon"]


class PowerCutError(Exception):
    """The machine stopped here."""


class CutDisk(Disk):
    """Cuts the power before step number `at`, and then loses what no sync has made durable.

    Data of files that were not synced is lost always, whoever wrote them, but for the log of
    SQLite, which syncs it itself. Names in folders that were not synced are lost if `names_lost`,
    else kept: a file system may do either.
    """

    def __init__(self, root: Path, at: int, *, names_lost: bool) -> None:
        self._root = root
        self._left = at
        self._names_lost = names_lost
        self._synced = {path.stat().st_ino for path in root.rglob("*") if path.is_file()}
        self._undo: list[tuple[Path, Callable[[], None]]] = []
        self._stash = root / ".stash"
        self._stash.mkdir(exist_ok=True)

    def put(self, path: Path, data: bytes) -> None:
        self._step()
        super().put(path, data)
        self._synced.discard(path.stat().st_ino)
        self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))

    def sync_file(self, path: Path) -> None:
        self._step()
        super().sync_file(path)
        self._synced.add(path.stat().st_ino)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)
        self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]

    def link(self, temp: Path, path: Path) -> None:
        self._step()
        super().link(temp, path)
        self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))

    def unlink(self, path: Path) -> None:
        self._step()
        kept = self._stash / uuid.uuid4().hex
        if path.exists():
            os.link(path, kept)
        super().unlink(path)
        self._undo.append((path.parent, lambda: os.link(kept, path)))

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        kept = self._stash / uuid.uuid4().hex
        if target.is_file():
            os.link(target, kept)
        super().rename(source, target)

        def undo() -> None:
            os.rename(target, source)
            if kept.exists():
                os.link(kept, target)

        self._undo.append((target.parent, undo))

    def mkdir(self, path: Path) -> None:
        self._step()
        super().mkdir(path)
        self._undo.append((path.parent, lambda: os.rename(path, self._stash / uuid.uuid4().hex)))

    def _step(self) -> None:
        if self._left == 0:
            for _, undo in reversed(self._undo if self._names_lost else []):
                undo()
            for path in self._root.rglob("*"):
                of_sqlite = path.name.endswith(("-wal", "-shm"))
                if path.is_file() and path.stat().st_ino not in self._synced and not of_sqlite:
                    os.truncate(path, 0)
            raise PowerCutError
        self._left -= 1


@pytest.fixture
def cut_disk() -> type[CutDisk]:
    return CutDisk


@pytest.fixture
def power_cut() -> type[PowerCutError]:
    return PowerCutError
