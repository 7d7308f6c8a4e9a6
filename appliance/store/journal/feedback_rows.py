"""The table `feedback`: rows and acts, each made of the other.

For the journal's part (`feedback`), for `filing` and for `rebuild`, each within its transaction.
Where a mark lies is one column: millimetres of the patient as a list, or a place on a radiograph as
an object.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from appliance.results.feedback import Feedback

_COLUMNS = """uid, at, study, series, report_id, bundle, verdict, finding, center_lps_mm, size_mm,
  undoes, role, reader, score, scores"""


def insert_in(db: sqlite3.Connection, said: Feedback) -> None:
    """An act as a row, within the caller's transaction. One that is there stays as it is."""
    scores = said.scores
    place = None if said.center_lps_mm is None else json.dumps(said.center_lps_mm)
    if said.place_px is not None:
        place = said.place_px.model_dump_json()
    db.execute(
        f"""INSERT INTO feedback ({_COLUMNS})
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (uid) DO NOTHING""",
        (
            str(said.uid), said.at, said.study, _text(said.series), str(said.report_id),
            said.bundle, said.verdict, said.finding, place, said.size_mm, _text(said.undoes),
            said.role, said.reader, said.score,
            None if scores is None else scores.model_dump_json(),
        ),
    )  # fmt: skip


def every(db: sqlite3.Connection) -> list[Feedback]:
    """All of them, in order."""
    return _read(db.execute(f"SELECT {_COLUMNS} FROM feedback ORDER BY id"))


def of_report(db: sqlite3.Connection, report_id: str) -> list[Feedback]:
    """Those about one report, in order."""
    return _read(
        db.execute(
            f"SELECT {_COLUMNS} FROM feedback WHERE report_id = ? ORDER BY id",
            (report_id,),
        )
    )


def _read(rows: Iterable[sqlite3.Row]) -> list[Feedback]:
    """What was appended can be read, unless the file is damaged."""
    try:
        return [_act(dict(row)) for row in rows]
    except ValueError as e:  # of pydantic too
        raise sqlite3.DatabaseError(f"a row of feedback cannot be read: {e}"[:300]) from e


def _act(row: dict[str, object]) -> Feedback:
    for name in ("center_lps_mm", "scores"):
        text = row[name]
        row[name] = None if text is None else json.loads(str(text))
    if isinstance(row["center_lps_mm"], dict):
        row["place_px"] = row["center_lps_mm"]
        row["center_lps_mm"] = None
    return Feedback.model_validate(row, extra="ignore")


def _text(value: object) -> str | None:
    return None if value is None else str(value)
