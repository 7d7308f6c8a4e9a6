"""Disks that fail, before a given step or for want of room, and one that counts.

Another kind of disk fails by a class of both, the one from here first.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from appliance.store.files import Disk


class PowerCut(BaseException):
    """Nobody catches it."""


class Stepped(Disk):
    """Says each step before it is done."""

    def step(self, name: str) -> None:
        """What raises here keeps the step from being done."""
        raise NotImplementedError

    def put(self, path: Path, data: bytes) -> None:
        self.step("put")
        super().put(path, data)

    def put_at(self, path: Path, offset: int, data: bytes) -> None:
        self.step("put_at")
        super().put_at(path, offset, data)

    def truncate(self, path: Path, size: int) -> None:
        self.step("truncate")
        super().truncate(path, size)

    def sync_file(self, path: Path) -> None:
        self.step("sync_file")
        super().sync_file(path)

    def sync_folder(self, path: Path) -> None:
        self.step("sync_folder")
        super().sync_folder(path)

    def link(self, temp: Path, path: Path) -> None:
        self.step("link")
        super().link(temp, path)

    def symlink(self, target: str, link: Path) -> None:
        self.step("symlink")
        super().symlink(target, link)

    def rename(self, source: Path, target: Path) -> None:
        self.step("rename")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self.step("unlink")
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self.step("mkdir")
        super().mkdir(path)


class Cut(Stepped):
    """The power goes before step number `at`, from 0 on; None counts them. Given `only`, no other
    step counts."""

    def __init__(self, at: int | None, only: Collection[str] = ()) -> None:
        self.at, self.steps, self._only = at, 0, only

    def step(self, name: str) -> None:
        if self._only and name not in self._only:
            return
        if self.steps == self.at:
            raise PowerCut
        self.steps += 1


class Failing(Stepped):
    """Step number `at`, from 1 on, finds no room: once, or from then on each."""

    def __init__(self, at: int, *, for_good: bool) -> None:
        self.at, self.for_good, self.done = at, for_good, 0

    def step(self, name: str) -> None:
        self.done += 1
        if self.done == self.at or (self.for_good and self.done > self.at):
            raise _no_room()


class Full(Disk):
    """While `full`, nothing of more than `room` bytes gets onto it, but for its first half."""

    def __init__(self, *, full: bool = True, room: int = 0) -> None:
        self.full, self.room = full, room

    def put(self, path: Path, data: bytes) -> None:
        super().put(path, self._part(data))
        self._told(data)

    def put_at(self, path: Path, offset: int, data: bytes) -> None:
        super().put_at(path, offset, self._part(data))
        self._told(data)

    def _fits(self, data: bytes) -> bool:
        return not self.full or len(data) <= self.room

    def _part(self, data: bytes) -> bytes:
        return data if self._fits(data) else data[: len(data) // 2]

    def _told(self, data: bytes) -> None:
        if not self._fits(data):
            raise _no_room()


class Counted(Stepped):
    """Counts each kind of step."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()

    def step(self, name: str) -> None:
        self.did[name] += 1


def _no_room() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")
