"""The records of state/web: who may log in, who is logged in, which links were given.

Rules
- One file a kind, 0600, a frozen record as JSON. It appears whole or not at all (store/files).
- The stage and the verbs of a terminal write the same files: each change is made to what is there,
  under the lock web/lock, so that none is lost. The stage sees it at its next request.
- A file that cannot be read as its record is an error, never an empty list: else who damages a file
  takes back what it forbids.
- A release that was rolled back leaves out what its successor has added to a record, and writes it
  without: so what forbids something never becomes a new field of these records, but a file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from appliance.errors import StateUnusable
from appliance.report import Record
from appliance.store import plain
from appliance.store.files import DISK, Disk
from appliance.store.lock import locked

FOLDER = "web"
R = TypeVar("R", bound=Record)
_MOST = 4 << 20
"""Bytes of a file: hundreds of times what the largest ward needs."""


class Kept(Generic[R]):
    """One file. `kind()` without a file: a record whose every field has a default."""

    def __init__(self, state: Path, name: str, kind: type[R], disk: Disk = DISK) -> None:
        self._state, self._name, self._kind, self._disk = state, name, kind, disk
        self._path = state / FOLDER / name
        self._turn = threading.Lock()
        self._seen: tuple[tuple[int, int, int] | None, R] = (None, kind())

    def now(self) -> R:
        """What it holds now. StateUnusable."""
        with self._turn:
            mark = self._mark()
            if mark != self._seen[0]:
                self._seen = (mark, self._read())
            return self._seen[1]

    def change(self, to: Callable[[R], R]) -> R:
        """Make of what it holds what `to` makes of it, durably; what raises changes nothing."""
        self._disk.make_folder(self._path.parent)
        with locked(self._path.with_name("lock")):
            before = self._read()
            after = to(before)
            if after != before:
                self._disk.write(self._path, after.model_dump_json(indent=1).encode())
        return after

    def _mark(self) -> tuple[int, int, int] | None:
        """Another one after each change; None without a file."""
        try:
            facts = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StateUnusable(f"{self._path}: {e.strerror}") from e
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def _read(self) -> R:
        try:
            found = self._kind.stored(plain.read(self._state, FOLDER, self._name, most=_MOST))
        except FileNotFoundError:
            return self._kind()
        except OSError as e:
            raise StateUnusable(f"{self._path}: {e.strerror}") from e
        except ValidationError as e:
            raise self._damaged(f"{e.error_count()} errors") from e
        if not found.model_fields_set:
            raise self._damaged("it holds nothing of what it is for")
        return found

    def _damaged(self, why: str) -> StateUnusable:
        return StateUnusable(
            f"{self._path} is damaged: {why}",
            remedy=f"Remove {self._path}. What it held must then be made again: accounts with "
            "`scanside web user add`, the display with `scanside web display`.",
            code="web_file_damaged",
        )
