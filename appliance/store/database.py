"""The journal's SQLite file: opening, schema, transactions, and what is wrong in our own words.

WAL so that readers never wait for the writer; synchronous=FULL so that a commit survives a power
cut; BEGIN IMMEDIATE so that a transaction that will write never fails half-way for want of a lock.
Each process opens its own; a connection must not be carried over a fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from appliance.errors import StateUnusable

VERSION = 2
_FROM_1 = """ALTER TABLE series ADD COLUMN
  priority TEXT NOT NULL DEFAULT 'routine' CHECK (priority IN ('routine', 'stat'))"""
BUSY_MS = 10_000


class Database:
    """One connection, usable from several threads of one process, one transaction at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        with _as_state_unusable(path), _one_opener(path):
            self._db = sqlite3.connect(
                path, isolation_level=None, timeout=BUSY_MS / 1000, check_same_thread=False
            )
            try:
                self._prepare(path)
            except BaseException:
                self._db.close()
                raise
        self._path = path

    def _prepare(self, path: Path) -> None:
        self._db.row_factory = sqlite3.Row
        for pragma in (
            f"busy_timeout = {BUSY_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StateUnusable(
                f"{path.name} has schema version {version}, this appliance knows {VERSION}",
                remedy="Update the appliance to the version that wrote this state, "
                "or start with another state folder.",
                code="journal_too_new",
            )
        if version == 0:
            schema = resources.files("appliance.store").joinpath("schema.sql").read_text("utf-8")
            self._db.executescript(f"BEGIN;{schema};PRAGMA user_version = {VERSION};COMMIT;")
        if version == 1:
            self._db.executescript(f"BEGIN;{_FROM_1};PRAGMA user_version = {VERSION};COMMIT;")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that may write: all of it or nothing."""
        with self._lock, _as_state_unusable(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view."""
        with self._lock, _as_state_unusable(self._path):
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")


@contextlib.contextmanager
def _one_opener(path: Path) -> Iterator[None]:
    """Only one process at a time makes the schema or changes to WAL."""
    handle = os.open(
        path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _as_state_unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as e:
        raise StateUnusable(f"{path}: {e}") from e
