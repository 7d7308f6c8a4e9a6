"""What readers said of pairs: that a finding and the earlier one are the same, or are not.

Rules
- A pair is a finding of a report beside a finding of an earlier one, or beside none where it is new
  or gone. It is named by both reports and not by the comparison, so that what was said holds for a
  comparison that is made again with another bundle.
- A row is appended, never changed or deleted; of one pair the last row counts, and `undo` takes
  back what was said before. A row says nothing of a patient, and an audit row names the act.
- A pair that counts as wrong passes no tracking UID on: a later comparison (compare/child.py) and a
  later structured report (compose/gather.py) ask here. The comparison itself stays as published.
- Of a file that has not taken the step to schema 6 this is empty, and nothing can be said. A
  damaged journal loses these rows with the comparisons that they are about.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from appliance.results.feedback import ReaderRole
from appliance.store.journal.audit import Audit
from appliance.store.journal.comparisons import are_here
from appliance.store.journal.database import Database
from appliance.store.journal.feedback import MOST_ROWS, Heard
from appliance.store.journal.part import Part

ACTOR, ACTION = "web", "web_pair"
"""Of the audit."""
PairVerdict = Literal["right", "wrong", "undo"]
_COLUMNS: Final = (
    "uid, at, report_id, prior_report_id, finding, prior_finding, verdict, role, reader"
)


class Pair(NamedTuple):
    """What is judged, within one report."""

    prior_report_id: uuid.UUID
    finding: int | None
    prior_finding: int | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A row of `pairs`. at: seconds since 1970, UTC."""

    uid: uuid.UUID
    """Drawn when the page was made: sent twice, it is one row."""
    at: float
    report_id: uuid.UUID
    pair: Pair
    verdict: PairVerdict
    role: ReaderRole
    reader: str


class Pairs(Part):
    """`journal.pairs`."""

    def __init__(self, database: Database, clock: Callable[[], float], audit: Audit) -> None:
        super().__init__(database, clock)
        self._audit = audit

    def say(self, said: Judged) -> Heard:
        """One act of a reader. GONE where its report is not there any more."""
        with self._db.write() as db:
            report = str(said.report_id)
            known = db.execute("SELECT 1 FROM reports WHERE report_id = ?", (report,)).fetchone()
            if not are_here(db) or known is None:
                return Heard.GONE
            if db.execute("SELECT 1 FROM pairs WHERE uid = ?", (str(said.uid),)).fetchone():
                return Heard.KNOWN
            (count,) = db.execute(
                "SELECT count(*) FROM pairs WHERE report_id = ?", (report,)
            ).fetchone()
            if count >= MOST_ROWS:
                return Heard.TOO_MANY
            db.execute(
                f"INSERT INTO pairs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    str(said.uid), said.at, report, str(said.pair.prior_report_id),
                    said.pair.finding, said.pair.prior_finding, said.verdict, said.role,
                    said.reader,
                ),
            )  # fmt: skip
            detail: dict[str, object] = {
                "uid": str(said.uid), "report_id": report, "verdict": said.verdict,
                "reader": said.reader, "role": said.role,
            }  # fmt: skip
            self._audit.add_in(db, ACTOR, ACTION, detail)
        return Heard.SAID

    def counting(self, report_id: uuid.UUID) -> dict[Pair, Judged]:
        """Of each pair of a report that was judged, the act that counts."""
        found: dict[Pair, Judged] = {}
        for one in self.of_report(report_id):
            found.pop(one.pair, None)
            if one.verdict != "undo":
                found[one.pair] = one
        return found

    def wrong(self, report_id: uuid.UUID) -> frozenset[Pair]:
        """The pairs of a report that count as wrong."""
        counting = self.counting(report_id)
        return frozenset(pair for pair, one in counting.items() if one.verdict == "wrong")

    def of_report(self, report_id: uuid.UUID) -> list[Judged]:
        """All that was said of pairs of a report, in order."""
        with self._db.look() as db:
            if not are_here(db):
                return []
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM pairs WHERE report_id = ? ORDER BY rowid",
                (str(report_id),),
            ).fetchall()
        return [_judged(row) for row in rows]


def _judged(row: sqlite3.Row) -> Judged:
    return Judged(
        uid=uuid.UUID(row["uid"]),
        at=row["at"],
        report_id=uuid.UUID(row["report_id"]),
        pair=Pair(uuid.UUID(row["prior_report_id"]), row["finding"], row["prior_finding"]),
        verdict=row["verdict"],
        role=row["role"],
        reader=row["reader"],
    )
