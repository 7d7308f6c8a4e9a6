"""The table `feedback` and entries of the ledger, each made of the other.

For the journal's part (`feedback`), for `filing` and for `rebuild`, each within its transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator

from appliance.results.feedback import Feedback, ReportScores
from appliance.store.journal.ledger import FeedbackEntry


def insert_in(db: sqlite3.Connection, entry: FeedbackEntry) -> None:
    """A row as an entry of the ledger has it, within the caller's transaction. One that is there
    stays as it is."""
    said, scores = entry.said, entry.scores
    place = None if said.center_lps_mm is None else json.dumps(said.center_lps_mm)
    db.execute(
        """INSERT INTO feedback
        (uid, at, study, series, report_id, bundle, verdict, finding, center_lps_mm, size_mm,
         undoes, role, reader, score, scores)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (uid) DO NOTHING""",
        (
            str(said.uid), said.at, said.study, _text(said.series), str(said.report_id),
            said.bundle, said.verdict, said.finding, place, said.size_mm, _text(said.undoes),
            said.role, said.reader, said.score,
            None if scores is None else scores.model_dump_json(),
        ),
    )  # fmt: skip


def entries(db: sqlite3.Connection) -> Iterator[FeedbackEntry]:
    """Every row, in order, as the ledger has it."""
    yield from _read(db.execute("SELECT * FROM feedback ORDER BY id"))


def of_report(db: sqlite3.Connection, report_id: str) -> list[FeedbackEntry]:
    """Those about one report, in order."""
    return _read(db.execute("SELECT * FROM feedback WHERE report_id = ? ORDER BY id", (report_id,)))


def _read(rows: Iterable[sqlite3.Row]) -> list[FeedbackEntry]:
    """What was appended can be read, unless the file is damaged."""
    try:
        return [_entry(dict(row)) for row in rows]
    except ValueError as e:  # of pydantic too
        raise sqlite3.DatabaseError(f"a row of feedback cannot be read: {e}"[:300]) from e


def _entry(row: dict[str, object]) -> FeedbackEntry:
    del row["id"]
    scores, place = row.pop("scores"), row.pop("center_lps_mm")
    return FeedbackEntry(
        said=Feedback.model_validate(
            {**row, "center_lps_mm": None if place is None else json.loads(str(place))}
        ),
        scores=None if scores is None else ReportScores.model_validate_json(str(scores)),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
