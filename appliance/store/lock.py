"""The one place of flock(2): locks on files, which the kernel drops with their holder.

    locked           wait for a lock that others hold shortly: the spool, the shelf, an opener
    locked_soon      the same, but not for long
    locked_if_there  the same for who only reads
    sharing          hold a lock beside others, and know whether there are any
    alone            one process of a kind for each state folder, or an error at once
    is_held          whether such a process lives, which takes nothing away from it
    lives_beside     the same of another slot's than ours
    holder           which one of a stage speaks for it, as two slots may have one (instance.py)
    is_byte_held     whether a byte of a file is held by fcntl(2), as SQLite does; we never do

A lock file is made at its first use, readable by its user alone, and never removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import StateUnusable
from appliance.store import instance
from appliance.store.files import DISK

_LONGEST = 4096
_FLOCK = "hhqqi"
"""struct flock of fcntl(2), 64 bit: type, whence, start, length, pid."""


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock on the file `path`; waits until nobody holds it otherwise.

    shared: beside others that hold it shared too. StateUnusable where the file cannot be opened.
    """
    with _opened(path) as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_soon(path: Path, within_s: float) -> Iterator[bool]:
    """The same for at most so long; whether it is held."""
    end = time.monotonic() + within_s
    with _opened(path) as handle:
        held = _try(handle, fcntl.LOCK_EX)
        while not held and time.monotonic() < end:
            time.sleep(0.01)
            held = _try(handle, fcntl.LOCK_EX)
        yield held


class Shared:
    """A lock on a file that others may hold shared too; the file has room for a few words."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def alone(self) -> bool:
        """Whether nobody else holds it. For who keeps others from taking it meanwhile."""
        alone = _try(self._handle, fcntl.LOCK_EX)
        fcntl.flock(self._handle, fcntl.LOCK_SH)
        return alone

    def words(self) -> bytes:
        """What was written last; not durable, and empty at first."""
        return os.pread(self._handle, _LONGEST, 0)

    def write(self, words: bytes) -> None:
        """A disk that takes it not leaves it empty, or as it was."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, words, 0)


@contextlib.contextmanager
def sharing(path: Path) -> Iterator[Shared]:
    """Hold the lock on the file `path` shared; waits while somebody holds it alone."""
    with _opened(path) as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield Shared(handle)


@contextlib.contextmanager
def locked_if_there(path: Path) -> Iterator[None]:
    """Hold the lock shared without making its file: no lock where it is missing or not ours."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone(state: Path, name: str) -> Iterator[int]:
    """Hold run/<name>.lock; StateUnusable (already_running) where another process holds it.

    Gives the descriptor that holds it: a process that was forked holds the lock too, until it
    closes it.
    """
    path = _of_stage(state, name)
    DISK.make_folder(path.parent)
    with _opened(path) as handle:
        try:
            _lock_soon(handle)
        except BlockingIOError as e:
            raise StateUnusable(
                f"{state}: another `scanside {name.partition('@')[0]}` serves this state folder",
                remedy="Stop the other one first, or set `state` to another folder.",
                code="already_running",
            ) from e
        yield handle


def is_held(state: Path, stage: str) -> bool | None:
    """Whether a process of the stage lives, of whatever slot; None where none ever did."""
    return holder(state, stage)[1]


def holder(state: Path, stage: str) -> tuple[str, bool | None]:
    """The name of the process that speaks for the stage, the one of the newest slot that lives,
    and whether it does; None where none ever did."""
    found = [(name, _is_held(state, name)) for name in instance.names(state, stage)]
    known = [one for one in found if one[1] is not None]
    return next((one for one in known if one[1]), known[0] if known else (stage, None))


def lives_beside(state: Path, stage: str) -> bool:
    """Whether a process of the stage of another slot than this one's lives."""
    ours = instance.name_of(stage)
    return any(_is_held(state, name) for name in instance.names(state, stage) if name != ours)


def _is_held(state: Path, name: str) -> bool | None:
    try:
        handle = os.open(_of_stage(state, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def is_byte_held(path: Path, byte: int) -> bool:
    """Whether another process holds this byte of the file; no where the file is missing.

    Never of a file on which this process itself has such locks: to close it would drop them.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    finally:
        os.close(handle)
    return bool(answer[0] != fcntl.F_UNLCK)


def _of_stage(state: Path, name: str) -> Path:
    return state / "run" / f"{name}.lock"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The lock file, made where it is missing. To close it is to let the lock go."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise StateUnusable(f"{path}: {e.strerror}") from e
    try:
        yield handle
    finally:
        os.close(handle)


def _try(handle: int, how: int) -> bool:
    """Take a lock if that needs no waiting."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_soon(handle: int) -> None:
    """BlockingIOError where another holds it for longer than `is_held` takes to look."""
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
