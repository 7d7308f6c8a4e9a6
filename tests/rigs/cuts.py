"""A disk whose power goes before a given step: what was done stays, the rest never happens."""

from __future__ import annotations

from pathlib import Path

from appliance.store.files import Disk


class PowerCut(BaseException):
    """Nobody catches it."""


class Cut(Disk):
    """The power goes before the given step; None counts them. Another kind of disk is cut by a
    class of both, this one first."""

    def __init__(self, at: int | None) -> None:
        self._at, self.steps = at, 0

    def _step(self) -> None:
        if self.steps == self._at:
            raise PowerCut
        self.steps += 1

    def put(self, path: Path, data: bytes) -> None:
        self._step()
        super().put(path, data)

    def sync_file(self, path: Path) -> None:
        self._step()
        super().sync_file(path)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)

    def symlink(self, target: str, link: Path) -> None:
        self._step()
        super().symlink(target, link)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._step()
        super().mkdir(path)
