"""How the journal grows from one release to the next, and which releases may use a file.

    schema.sql    makes a journal of schema 5, and stays as it is for ever
    STEPS         what each later schema adds; a new journal is made by schema.sql and all of them
    in the file   its schema (PRAGMA user_version), and `min_reader` (PRAGMA application_id): the
                  lowest schema whose code may read and write it

Rules
- A step only adds: tables, columns that may be null and have no default, and indexes that demand
  nothing. It changes and removes nothing, and puts no constraint and no trigger on what was there.
  A new column has a name that no table had: an older query that names its columns without their
  table would not know which one is meant. `tests/appliance/store/journal/test_steps.py` runs every
  step over a filled journal of the schema before, and compares.
- So code of an older schema reads and writes what is its own, as if nothing had been added; it
  names its columns, never `*` (`tests/house/test_sql.py`). Open refuses a file whose `min_reader`
  is above its own schema, and no other. A file that does not say it was made before it was said,
  and is for its own schema and later ones.
- A release works on its own schema and on the one before. What needs a table or a column of a step
  asks `header` in its transaction, and goes without it in a file that has not taken the step.
- `min_reader` of a step is the schema of the release before, or lower: a release that is rolled
  back must start on what its successor wrote.
- `work` takes all steps when it starts (`Journal.migrate`), but not while its release is on trial:
  then that is done at the first start after the release was confirmed. Who else opens a journal
  takes a step only where the file is older than the schema before, and only if the release that
  wrote it may still use the file then.
- Schemas before 5 lie in files of their own (`migrate`), and are taken over as before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Final, NamedTuple

FIRST: Final = 5
"""The schema of schema.sql: the first one whose journal grows in its file."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one schema adds to the one before."""

    statements: tuple[str, ...]
    """CREATE TABLE, CREATE INDEX, and ALTER TABLE ... ADD COLUMN."""
    min_reader: int


STEPS: Mapping[int, Step] = MappingProxyType(
    {
        6: Step(
            (
                # what is to be compared with earlier exams (comparisons.py): one row a standing
                # final report. prior_only: it came from senders of earlier exams alone
                """CREATE TABLE comparisons (
  report_id TEXT PRIMARY KEY,
  study_uid TEXT NOT NULL,
  series_uid TEXT NOT NULL,
  bundle_digest TEXT NOT NULL,
  prior_only INTEGER NOT NULL CHECK (prior_only IN (0, 1)),
  state TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'dead', 'withdrawn')),
  attempts INTEGER NOT NULL,
  since REAL NOT NULL,
  last_error TEXT
) STRICT""",
                "CREATE INDEX comparisons_by_state ON comparisons (state, since)",
                "CREATE INDEX comparisons_of_series ON comparisons (study_uid, series_uid)",
                # each comparison as it was published; superseded_by: what is said in its place,
                # itself where it counts no more and nothing does
                """CREATE TABLE compared (
  comparison_id TEXT PRIMARY KEY,
  report_id TEXT NOT NULL,
  prior_report_id TEXT,
  at REAL NOT NULL,
  json TEXT NOT NULL,
  superseded_by TEXT
) STRICT""",
                "CREATE INDEX compared_of_report ON compared (report_id, at)",
                "CREATE INDEX compared_with ON compared (prior_report_id)",
                # what readers said of pairs (pairs.py): append-only, without a trigger because a
                # step makes none; of one pair the last row counts
                """CREATE TABLE pairs (
  uid TEXT PRIMARY KEY,
  at REAL NOT NULL,
  report_id TEXT NOT NULL,
  prior_report_id TEXT NOT NULL,
  finding INTEGER,
  prior_finding INTEGER,
  verdict TEXT NOT NULL CHECK (verdict IN ('right', 'wrong', 'undo')),
  role TEXT NOT NULL,
  reader TEXT NOT NULL
) STRICT""",
                "CREATE INDEX pairs_of_report ON pairs (report_id)",
                # that a reader has read all images of a report (reads.py): append-only, without a
                # trigger because a step makes none; of one report the last row counts
                """CREATE TABLE reads (
  uid TEXT PRIMARY KEY,
  at REAL NOT NULL,
  report_id TEXT NOT NULL,
  series TEXT,
  bundle TEXT,
  done INTEGER NOT NULL CHECK (done IN (0, 1)),
  role TEXT NOT NULL,
  reader TEXT NOT NULL,
  scores TEXT
) STRICT""",
                "CREATE INDEX reads_of_report ON reads (report_id)",
                # 1: nothing is owed of it, for all of its study came from senders of earlier exams
                "ALTER TABLE series ADD COLUMN silent INTEGER",
            ),
            min_reader=5,
        ),
    }
)
"""Schema -> its step, from FIRST + 1 on and without a gap."""


class Header(NamedTuple):
    """What a file says of itself; both 0: it was never finished."""

    schema: int
    min_reader: int


def newest() -> int:
    """The schema of this release."""
    return max(STEPS, default=FIRST)


def least() -> int:
    """The oldest schema on which this release works: the one before its own."""
    return max(FIRST, newest() - 1)


def header(db: sqlite3.Connection) -> Header:
    """What the open file says of itself."""
    schema = int(db.execute("PRAGMA user_version").fetchone()[0])
    said = int(db.execute("PRAGMA application_id").fetchone()[0])
    return Header(schema, said or schema)


def min_reader(schema: int) -> int:
    """The lowest schema whose code may use a journal of this schema, which this release knows."""
    return STEPS[schema].min_reader if schema in STEPS else schema


def made(schema: int | None = None) -> str:
    """The statements that make an empty journal; schema: None is that of this release."""
    last = newest() if schema is None else schema
    text = resources.files("appliance.store.journal").joinpath("schema.sql").read_text("utf-8")
    steps = [statement for n in range(FIRST + 1, last + 1) for statement in STEPS[n].statements]
    return "".join([text, *(f"{one};" for one in (*steps, *_said(last)))])


def take(db: sqlite3.Connection, to: int) -> bool:
    """Take every step up to this schema, within the caller's transaction. False where there is
    none, as in a file of a later release."""
    found = header(db).schema
    for number in range(found + 1, to + 1):
        for statement in STEPS[number].statements:
            db.execute(statement)
    if found >= to:
        return False
    for statement in _said(to):
        db.execute(statement)
    return True


def _said(schema: int) -> tuple[str, str]:
    """What a file of this schema says of itself."""
    return (
        f"PRAGMA user_version = {schema}",
        f"PRAGMA application_id = {min_reader(schema)}",
    )
