"""A later release of the journal, made up: a step that adds to every table, and a table of its own.

`step` is what such a release would have in `steps.STEPS`; `grow` makes a file what it would leave.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Final

from appliance.store.journal import JOURNAL_NAME, steps
from appliance.store.journal.steps import Step

TABLES: Final = (
    "associations", "series", "arrivals", "reports", "owed", "told", "commitments", "uncommitted",
    "relayed", "feedback", "comments", "timings", "counters", "events", "audit",
)  # fmt: skip
"""Of schema 5."""


def step(schema: int, min_reader: int = steps.FIRST) -> Step:
    """The made-up step to this schema; what it adds has the schema in its name."""
    columns = (f"ALTER TABLE {table} ADD COLUMN {table}_{schema} TEXT" for table in TABLES)
    return Step(
        (
            *columns,
            f"CREATE TABLE extra_{schema} (id INTEGER PRIMARY KEY, said TEXT NOT NULL) STRICT",
            f"CREATE INDEX series_{schema} ON series (series_{schema})",
        ),
        min_reader,
    )


def steps_to(last: int, min_reader: int = steps.FIRST) -> Mapping[int, Step]:
    """The made-up steps from today's schema to this one."""
    return MappingProxyType(
        {n: step(n, min_reader) for n in range(steps.newest() + 1, last + 1)}
    )  # fmt: skip


def grow(state: Path, schema: int | None = None) -> None:
    """Let a later release confirm its update on this journal, which nobody has open.

    schema: of that release; None: the next one.
    """
    to = steps.newest() + 1 if schema is None else schema
    later = steps_to(to)
    with closing(sqlite3.connect(state / JOURNAL_NAME, isolation_level=None)) as db:
        db.execute("BEGIN")
        for number in sorted(later):
            for statement in later[number].statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {to}")
        db.execute(f"PRAGMA application_id = {steps.newest()}")
        db.execute("COMMIT")
