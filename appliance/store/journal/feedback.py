"""What readers said of reports, for ever; and their comments, for as long as the series is there.

Rules
- A row is appended and never changed or deleted: two triggers hold it. It says nothing of a patient
  (results/feedback.py), so it stays when images, report and masks are deleted.
- A row, what it owes to the broker and, of the first row about a report, what was scored for it are
  one transaction. They stand in the ledger too: a damaged journal loses none of them.
- A row about a report that is not there any more, such as of a page that stayed open while its
  series was deleted, is refused. So is an undo of a row that counts no more.
- A comment is in a table of its own and goes with its series. It is owed to nobody, is in no ledger
  and in no export: whoever writes a name into it has written it here alone. A damaged journal
  loses comments, because a second copy would outlive the series.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from appliance.report import SeriesKey
from appliance.results import message, mqtt
from appliance.results.feedback import Feedback, ReaderRole, ReportScores, counting
from appliance.store.journal import feedback_rows as rows
from appliance.store.journal.database import Database
from appliance.store.journal.ledger import FeedbackEntry
from appliance.store.journal.owed import Outbox
from appliance.store.journal.part import Part

LONGEST_COMMENT: Final = 2000
"""Letters. What is longer is cut."""
MOST_COMMENTS: Final = 100
"""Of one report: a page that is filled by a script fills no disk."""
MOST_ROWS: Final = 1000
"""Of one report."""


class Heard(Enum):
    """What became of what a reader said."""

    SAID = "said"
    KNOWN = "known"
    """The same act was sent twice: it is one row."""
    GONE = "gone"
    """The report is not there any more."""
    TAKEN_BACK = "taken back"
    """What was to be undone counts no more, or never was about this report."""
    TOO_MANY = "too many"
    """So much was said of this report that something must be wrong."""


@dataclass(frozen=True, slots=True)
class Comment:
    """A row of `comments`. at: seconds since 1970, UTC."""

    at: float
    finding: int | None
    role: ReaderRole
    reader: str
    text: str


class FeedbackPart(Part):
    """`journal.feedback`."""

    def __init__(self, database: Database, clock: Callable[[], float], owed: Outbox) -> None:
        super().__init__(database, clock)
        self._owed = owed

    def say(self, said: Feedback, scores: ReportScores | None = None) -> Heard:
        """One act of a reader, and the message about it. scores: of its report, kept where this is
        the first row about it."""
        with self._db.write() as db:
            uid, report = str(said.uid), str(said.report_id)
            if db.execute("SELECT 1 FROM feedback WHERE uid = ?", (uid,)).fetchone():
                return Heard.KNOWN
            key = _series_of(db, report)
            if key is None:
                return Heard.GONE
            before = rows.of_report(db, report)
            if len(before) >= MOST_ROWS:
                return Heard.TOO_MANY
            if said.undoes is not None and said.undoes not in _standing(before):
                return Heard.TAKEN_BACK
            if not before:
                said = said.model_copy(update={"scores": scores})
            rows.insert_in(db, said)
            self._db.ledger.note(FeedbackEntry(said=said))
            self._owed.add_in(db, [mqtt.enveloped(message.of_feedback(said), key)])
        return Heard.SAID

    def of_report(self, report_id: object) -> list[Feedback]:
        """All that was said of one report, in order; `results.feedback.counting` tells what
        counts."""
        with self._db.look() as db:
            return rows.of_report(db, str(report_id))

    def all(self) -> list[Feedback]:
        """All that was ever said, in order."""
        with self._db.look() as db:
            return rows.every(db)

    # Comments.

    def remark(
        self, report_id: object, finding: int | None, text: str, *, role: ReaderRole, reader: str
    ) -> Heard:
        """A comment on a finding, or (None) on a report: SAID, GONE or TOO_MANY."""
        with self._db.write() as db:
            key = _series_of(db, str(report_id))
            if key is None:
                return Heard.GONE
            (count,) = db.execute(
                "SELECT count(*) FROM comments WHERE report_id = ?", (str(report_id),)
            ).fetchone()
            if count >= MOST_COMMENTS:
                return Heard.TOO_MANY
            db.execute(
                """INSERT INTO comments
                (at, study_uid, series_uid, report_id, finding, role, reader, text)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                (
                    self._clock(), key.study, key.series, str(report_id), finding, role, reader,
                    text[:LONGEST_COMMENT],
                ),
            )  # fmt: skip
        return Heard.SAID

    def comments(self, report_id: object) -> list[Comment]:
        """Those on one report and its findings, in order."""
        with self._db.look() as db:
            found = db.execute(
                """SELECT at, finding, role, reader, text FROM comments
                WHERE report_id = ? ORDER BY id""",
                (str(report_id),),
            ).fetchall()
        return [Comment(**dict(row)) for row in found]


def _standing(acts: Iterable[Feedback]) -> set[object]:
    """The acts that can be taken back: each that nobody took back yet."""
    said = list(acts)
    gone = counting(said).taken_back
    return {row.uid for row in said if row.verdict != "undo" and row.uid not in gone}


def _series_of(db: sqlite3.Connection, report_id: str) -> SeriesKey | None:
    row = db.execute(
        "SELECT study_uid, series_uid FROM reports WHERE report_id = ?", (report_id,)
    ).fetchone()
    return None if row is None else SeriesKey(row["study_uid"], row["series_uid"])
