"""One process of a kind for each state folder: a lock that the kernel drops with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import StateUnusable
from appliance.store.files import DISK


@contextlib.contextmanager
def alone(state: Path, name: str) -> Iterator[None]:
    """Hold run/<name>.lock; StateUnusable (already_running) where another process holds it."""
    path = state / "run" / f"{name}.lock"
    DISK.make_folder(path.parent)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise StateUnusable(f"{path}: {e.strerror}") from e
    try:
        try:
            _lock(handle)
        except BlockingIOError as e:
            raise StateUnusable(
                f"{state}: another `scanside {name}` serves this state folder",
                remedy="Stop the other one first, or set `state` to another folder.",
                code="already_running",
            ) from e
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """BlockingIOError where another holds it for longer than `is_held` takes to look."""
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(state: Path, name: str) -> bool | None:
    """Whether a process holds run/<name>.lock; None where none ever did."""
    try:
        handle = os.open(state / "run" / f"{name}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
