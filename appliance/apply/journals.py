"""The journal of the stages, as `apply` opens it: root, in a folder that another user writes.

Rules.
1. None of the files that a journal is made of is a symbolic link, nor has a second name elsewhere,
   and the folder itself is no link: else root would read, or write, what somebody in a stage chose.
   It is looked at before the journal is opened and once more before anything is done with it.
2. SQLite opens files by their names: who exchanges one between the two looks is seen by the second,
   before a line is written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import StateUnusable
from appliance.store.journal import Journal

_PREFIX = "journal"
"""Of the journal, its ledger, their locks, and what SQLite puts beside (-wal, -shm)."""


@contextmanager
def reading(state: Path) -> Iterator[Journal | None]:
    """To read; None where there is none yet. StateUnusable: `symbolic_link`, or as Journal.read."""
    require_own(state)
    journal = Journal.read(state)
    if journal is None:
        yield None
        return
    with journal:
        require_own(state)
        yield journal


@contextmanager
def writing(state: Path) -> Iterator[Journal]:
    """To write. StateUnusable (`symbolic_link`, or as Journal.open)."""
    require_own(state)
    with Journal.open(state) as journal:
        require_own(state)
        yield journal


def require_own(state: Path) -> None:
    """Rule 1. StateUnusable (`symbolic_link`)."""
    try:
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _not_ours(state) from e
        raise StateUnusable(f"{state}: {e.strerror}") from e
    try:
        for name in os.listdir(folder):
            if not name.startswith(_PREFIX):
                continue
            try:
                facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue  # -wal and -shm come and go
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
                raise _not_ours(state / name)
    finally:
        os.close(folder)


def _not_ours(path: Path) -> StateUnusable:
    return StateUnusable(
        f"{path} is a link, or no file of the journal",
        code="symbolic_link",
        remedy="Somebody was in a stage of this box: keep the state folder, and call the fleet "
        "team. `apply` opens no journal there.",
    )
