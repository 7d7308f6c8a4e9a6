"""Which reports were read to the end, as readers said.

Rules
- A row is appended, never changed or deleted; of one report the last row counts. It says nothing of
  a patient, and an audit row names the act. It outlives the images, as feedback does: coverage is
  counted over years (quality/coverage.py).
- Of a file that has not taken the step to schema 6 this is empty, and nothing can be said. A
  damaged journal loses these rows; what was counted of them begins anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable

from appliance.results.feedback import Read
from appliance.store.journal.audit import Audit
from appliance.store.journal.comparisons import are_here
from appliance.store.journal.database import Database
from appliance.store.journal.feedback import MOST_ROWS, Heard
from appliance.store.journal.part import Part

ACTOR, ACTION = "web", "web_read"
"""Of the audit."""
_COLUMNS = "uid, at, report_id, series, bundle, done, role, reader, scores"


class Reads(Part):
    """`journal.reads`."""

    def __init__(self, database: Database, clock: Callable[[], float], audit: Audit) -> None:
        super().__init__(database, clock)
        self._audit = audit

    def say(self, said: Read) -> Heard:
        """One act of a reader. GONE where its report is not there any more."""
        with self._db.write() as db:
            report = str(said.report_id)
            known = db.execute("SELECT 1 FROM reports WHERE report_id = ?", (report,)).fetchone()
            if not are_here(db) or known is None:
                return Heard.GONE
            if db.execute("SELECT 1 FROM reads WHERE uid = ?", (str(said.uid),)).fetchone():
                return Heard.KNOWN
            (count,) = db.execute(
                "SELECT count(*) FROM reads WHERE report_id = ?", (report,)
            ).fetchone()
            if count >= MOST_ROWS:
                return Heard.TOO_MANY
            db.execute(
                f"INSERT INTO reads ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    str(said.uid), said.at, report,
                    None if said.series is None else str(said.series), said.bundle,
                    int(said.done), said.role, said.reader,
                    None if said.scores is None else said.scores.model_dump_json(),
                ),
            )  # fmt: skip
            detail: dict[str, object] = {
                "uid": str(said.uid), "report_id": report, "done": said.done,
                "reader": said.reader, "role": said.role,
            }  # fmt: skip
            self._audit.add_in(db, ACTOR, ACTION, detail)
        return Heard.SAID

    def counting(self, report_id: object) -> Read | None:
        """The last act about one report; None where nobody said anything."""
        with self._db.look() as db:
            if not are_here(db):
                return None
            found = _read(
                db.execute(
                    f"SELECT {_COLUMNS} FROM reads WHERE report_id = ? ORDER BY rowid DESC LIMIT 1",
                    (str(report_id),),
                )
            )
        return found[0] if found else None

    def all(self) -> list[Read]:
        """All that was ever said, in order."""
        with self._db.look() as db:
            if not are_here(db):
                return []
            return _read(db.execute(f"SELECT {_COLUMNS} FROM reads ORDER BY rowid"))


def _read(rows: Iterable[sqlite3.Row]) -> list[Read]:
    """What was appended can be read, unless the file is damaged."""
    found = []
    for row in rows:
        said = dict(row)
        said["done"] = bool(said["done"])
        said["scores"] = None if said["scores"] is None else json.loads(said["scores"])
        try:
            found.append(Read.model_validate(said, extra="ignore"))
        except ValueError as e:  # of pydantic too
            raise sqlite3.DatabaseError(f"a row of reads cannot be read: {e}"[:300]) from e
    return found
