"""What was told in an object that was composed of a report, where it may be otherwise later.

An object names times, and what is known of the neighbours of its series. Composed a second time, it
would say something else under the same UID, which an archive answers as a duplicate and throws away
(PS3.4 B.2.3: 0111). So who composes keeps here what it is about to say, and says what stands here.

Rules
- The first one to keep something is right; everybody else is told what that was.
- It outlives the series, whose images may come a second time: for KEPT_S.
- What one archive got of a report, where that is not what all get, stands here too, under a stage
  of its own, which has a blank in it (`compose.sent`).
- It outlives a journal that is damaged as long as its series: it stands in the ledger, then beside
  the masks of its report (`filing`).
"""

from __future__ import annotations

import sqlite3
import uuid
from typing import Final

from appliance.store.journal.ledger import ToldEntry
from appliance.store.journal.part import Part

KEPT_S: Final = 5 * 365.25 * 86400.0
"""Five years."""


class Told(Part):
    """`journal.told`."""

    def keep(self, report_id: uuid.UUID, stage: str, edition: int, told: str) -> str:
        """What the object of a report says, from now on; what stands there already, where something
        does. stage, edition: as `results.pacs.Ordered` has them."""
        ids = str(report_id), stage, edition
        with self._db.write() as db:
            known = db.execute(
                "SELECT told FROM told WHERE (report_id, stage, edition) = (?, ?, ?)", ids
            ).fetchone()
            if known is not None:
                return str(known["told"])
            entry = ToldEntry(
                report_id=ids[0], stage=stage, edition=edition, told=told, at=self._clock()
            )
            insert_in(db, entry)
            self._db.ledger.note(entry)
        return told

    def kept(self, report_id: uuid.UUID, stage: str, edition: int) -> str | None:
        """What is kept of just this; None: nothing."""
        with self._db.look() as db:
            row = db.execute(
                "SELECT told FROM told WHERE (report_id, stage, edition) = (?, ?, ?)",
                (str(report_id), stage, edition),
            ).fetchone()
        return None if row is None else str(row["told"])

    def all(self, report_id: uuid.UUID) -> list[str]:
        """All that was told of a report to all archives, in every stage and edition, the oldest
        first."""
        with self._db.look() as db:
            rows = db.execute(
                """SELECT told FROM told WHERE report_id = ? AND NOT instr(stage, ' ')
                ORDER BY rowid""",
                (str(report_id),),
            ).fetchall()
        return [str(row["told"]) for row in rows]

    def purge_in(self, db: sqlite3.Connection) -> None:
        """Delete what is older than KEPT_S; within the caller's transaction."""
        db.execute("DELETE FROM told WHERE at < ?", (self._clock() - KEPT_S,))


def insert_in(db: sqlite3.Connection, entry: ToldEntry) -> None:
    """A row for what was told; within the caller's transaction."""
    db.execute(
        "INSERT INTO told (report_id, stage, edition, told, at) VALUES (?, ?, ?, ?, ?)",
        (entry.report_id, entry.stage, entry.edition, entry.told, entry.at),
    )
