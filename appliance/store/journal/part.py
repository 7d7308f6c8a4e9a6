"""What every part of the journal stands on: the database, the clock, rows as dataclasses."""

from __future__ import annotations

import dataclasses
import functools
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar, cast

from appliance.store.journal.database import Database

_T = TypeVar("_T")


class Part:
    """A part of the journal: methods over one database.

    A public method is one transaction; one that takes `db` is done within the caller's.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._db = database
        self._clock = clock


def next_value(db: sqlite3.Connection, counter: str) -> int:
    """The next value of a counter, within the caller's transaction."""
    row = db.execute(
        "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value", (counter,)
    ).fetchone()
    return int(row[0])


def as_row(kind: type[_T], row: sqlite3.Row) -> _T:
    """The columns that the dataclass `kind` names."""
    return kind(**{name: row[name] for name in _names(cast(Any, kind))})


def columns(kind: type[object], table: str = "") -> str:
    """The columns that the dataclass `kind` names, as a query names them; table: whose they are."""
    names = _names(cast(Any, kind))
    return ", ".join(f"{table}.{name}" if table else name for name in names)


@functools.cache
def _names(kind: type[object]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cast(Any, kind)))
