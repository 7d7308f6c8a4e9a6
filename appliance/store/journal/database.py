"""The journal's SQLite file: opening, schema, transactions, and what is wrong in our own words.

Rules
- WAL so that readers never wait for the writer; synchronous=FULL so that a commit survives a power
  cut; BEGIN IMMEDIATE so that a transaction that will write never fails half-way for want of a
  lock. Each process opens its own; a connection must not be carried over a fork.
- `open` makes the file where there is none, from the journal of an earlier release if there is one
  (`migrate`). One process at a time does that.
- `read` never makes and never changes a file. While a stage has the journal open, SQLite lets a
  reader in beside it. With all stages gone there is no log (`-wal`): the file is read as it stands,
  and the opener's lock keeps a stage from starting meanwhile. A log that a power cut left behind
  without its index is read from a copy, because SQLite would make that index.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from appliance.errors import StateUnusable
from appliance.store.files import DISK, Disk
from appliance.store.lock import locked, locked_if_there

JOURNAL_NAME = "journal-3.sqlite"
"""Its file in the state folder."""
VERSION = 3
BUSY_MS = 10_000
_D = TypeVar("_D", bound="Database")


class Database:
    """One connection, usable from several threads of one process, one transaction at a time."""

    def __init__(self, path: Path, db: sqlite3.Connection, end: contextlib.ExitStack) -> None:
        """`end`: what is to be closed with it."""
        self._path = path
        self._db = db
        self._end = end
        self._lock = threading.RLock()
        db.row_factory = sqlite3.Row
        db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    @classmethod
    def open(cls: type[_D], state: Path, disk: Disk = DISK) -> _D:
        """The journal of a state folder, which exists; made where it is missing."""
        path = state / JOURNAL_NAME
        with contextlib.ExitStack() as end, as_state_unusable(path), locked(_opener(path)):
            if not path.exists():
                # only once in the life of a device, and it needs what a receiver does not
                from appliance.store.journal import migrate  # noqa: PLC0415

                migrate.fill(state, path, disk)
            db = end.enter_context(contextlib.closing(connected(path)))
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                db.execute(f"PRAGMA {pragma}")
            if _version(db, path) == 0:
                db.executescript(f"BEGIN;{schema()}COMMIT;")
            return cls(path, db, end.pop_all())

    @classmethod
    def read(cls: type[_D], state: Path) -> _D | None:
        """The same for who only reads; None where there is no journal yet.

        StateUnusable (journal_waits) where there is one of an earlier release only.
        """
        path = state / JOURNAL_NAME
        if not path.exists():
            _refuse_earlier(state)
            return None
        with contextlib.ExitStack() as end, as_state_unusable(path):
            db = end.enter_context(contextlib.closing(_for_reading(path, end)))
            if _version(db, path) == 0:
                return None
            return cls(path, db, end.pop_all())

    def close(self) -> None:
        with self._lock:
            self._end.close()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that may write: all of it or nothing."""
        with self._lock, as_state_unusable(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def look(self) -> Iterator[sqlite3.Connection]:
        """One consistent view."""
        with self._lock, as_state_unusable(self._path):
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")


def connected(path: Path, parameters: str = "") -> sqlite3.Connection:
    """A connection to the file; parameters: of SQLite's URI, such as `mode=ro`."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?{parameters}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_MS / 1000,
        check_same_thread=False,
    )


def schema() -> str:
    """The statements that make an empty journal, its version included."""
    text = resources.files("appliance.store.journal").joinpath("schema.sql").read_text("utf-8")
    return f"{text}PRAGMA user_version = {VERSION};"


def refuse_newer(found: int, path: Path, known: int = VERSION) -> None:
    """StateUnusable where a file of this schema version was written by a later release."""
    if found > known:
        raise StateUnusable(
            f"{path.name} has schema version {found}, this appliance knows {known}",
            remedy="Update the appliance to the version that wrote this state, "
            "or start with another state folder.",
            code="journal_too_new",
        )


@contextlib.contextmanager
def as_state_unusable(path: Path) -> Iterator[None]:
    """What SQLite and the disk raise, as StateUnusable."""
    try:
        yield
    except (sqlite3.Error, OSError) as e:
        raise StateUnusable(f"{path}: {e}") from e


def _version(db: sqlite3.Connection, path: Path) -> int:
    """0 where the file is empty."""
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    refuse_newer(found, path)
    return found


def _refuse_earlier(state: Path) -> None:
    from appliance.store.journal import migrate  # noqa: PLC0415 - as in `Database.open`

    if migrate.waits(state):
        raise StateUnusable(
            f"{state / migrate.OLD_NAME} is of an earlier release: the first stage takes it over",
            remedy="Start the stages (`systemctl start scanside.target`, or `scanside run`), "
            "then ask again.",
            code="journal_waits",
        )


def _for_reading(path: Path, end: contextlib.ExitStack) -> sqlite3.Connection:
    """A connection that leaves the folder as it is, in one of the three ways."""
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if log.exists() and index.exists():
        return connected(path, "mode=ro")
    end.enter_context(locked_if_there(_opener(path)))  # from here on no stage can start
    if not log.exists():
        return connected(path, "mode=ro&immutable=1")
    if index.exists():
        end.close()
        return connected(path, "mode=ro")
    import tempfile  # noqa: PLC0415 - only a reader after a crash needs it

    folder = Path(end.enter_context(tempfile.TemporaryDirectory(prefix="scanside-journal-")))
    shutil.copyfile(path, folder / path.name)
    with contextlib.suppress(FileNotFoundError):  # the last stage has just ended
        shutil.copyfile(log, folder / log.name)
    return connected(folder / path.name)


def _opener(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
