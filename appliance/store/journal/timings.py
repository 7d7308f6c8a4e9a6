"""The ledger of times: how long each report took after the last slice.

Rules
- While a series is here, its times are read from its reports and from what the broker took of them.
  When `retain` deletes it, `Journal.forget` writes a row of `timings` for each final report, in the
  same transaction. So nothing is written on the way of a report.
- What outlives the series: when it was, the AE title of the scanner, the status of the report and
  five figures in seconds. No study, no series, no report id, no patient and no finding.
- The rows are kept for KEPT_S. They are not in the ledger beside the journal (`ledger`): a journal
  that is made anew after damage begins this count from the series that are still here.
- A time that is not known is None. A report that is made of files from disk has no last slice, and
  one whose clock ran backwards has no time: neither has a row.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from appliance.report import SeriesKey
from appliance.results import mqtt
from appliance.store.journal.part import Part, as_row
from appliance.store.rows import Timing

KEPT_S: Final = 5 * 365.25 * 86400.0
"""Five years."""
_FORMS = """SELECT reports.report_id, reports.study_uid, reports.series_uid, reports.stage,
    reports.status, reports.created, series.calling_ae,
    json_extract(reports.json, '$.times.last_slice') AS last_slice
  FROM reports JOIN series ON series.study_uid = reports.study_uid
    AND series.series_uid = reports.series_uid"""
_COLUMNS: Final = tuple(field.name for field in dataclasses.fields(Timing))


class Timings(Part):
    """`journal.timings`."""

    def here(self, limit: int) -> list[Timing]:
        """Of the series that are here: those of the newest `limit` rows of reports."""
        with self._db.look() as db:
            rows = db.execute(f"{_FORMS} ORDER BY reports.rowid DESC LIMIT ?", (limit,)).fetchall()
            return _timings(db, rows)

    def gone(self, since: float = float("-inf")) -> list[Timing]:
        """Of the series that were deleted, the oldest report first."""
        with self._db.look() as db:
            rows = db.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM timings WHERE at >= ? ORDER BY at", (since,)
            )
            return [as_row(Timing, row) for row in rows]

    def of_series_in(self, db: sqlite3.Connection, key: SeriesKey) -> list[Timing]:
        """Of a series that is here; within the caller's transaction."""
        where = f"{_FORMS} WHERE reports.study_uid = ? AND reports.series_uid = ?"
        return _timings(db, db.execute(where, (key.study, key.series)).fetchall())

    def keep_in(self, db: sqlite3.Connection, timings: Iterable[Timing]) -> None:
        """Write down those of a series that was deleted; within the caller's transaction."""
        marks = ", ".join("?" * len(_COLUMNS))
        db.executemany(
            f"INSERT INTO timings ({', '.join(_COLUMNS)}) VALUES ({marks})",
            [dataclasses.astuple(timing) for timing in timings],
        )

    def purge_in(self, db: sqlite3.Connection) -> None:
        """Delete what is older than KEPT_S; within the caller's transaction."""
        db.execute("DELETE FROM timings WHERE at < ?", (self._clock() - KEPT_S,))


def _timings(db: sqlite3.Connection, rows: Iterable[sqlite3.Row]) -> list[Timing]:
    """Of each report whose final form is among the rows; in their order."""
    forms: dict[str, dict[str, sqlite3.Row]] = {}
    for row in rows:
        forms.setdefault(row["report_id"], {})[row["stage"]] = row
    found = []
    for report_id, stages in forms.items():
        if (final := stages.get("final")) is None or final["last_slice"] is None:
            continue
        key = SeriesKey(final["study_uid"], final["series_uid"])
        timing = _timing(stages, final, *_told(db, key, report_id))
        if timing is not None:
            found.append(timing)
    return found


def _timing(
    stages: Mapping[str, sqlite3.Row],
    final: sqlite3.Row,
    judged: float | None,
    told: Mapping[str, float | None],
) -> Timing | None:
    """told: by stage, when the broker took the event of the report."""
    first = min(stages.values(), key=lambda row: float(row["created"]))
    last = datetime.fromisoformat(final["last_slice"].replace("Z", "+00:00")).timestamp()

    def after(at: float | None) -> float | None:
        return None if at is None or at < last else at - last

    first_s, final_s = after(first["created"]), after(final["created"])
    if first_s is None or final_s is None:
        return None
    quiet = after(judged)
    return Timing(
        at=first["created"],
        scanner=final["calling_ae"],
        status=final["status"],
        first_s=first_s,
        first_told_s=after(told.get(first["stage"])),
        quiet_s=quiet if quiet is not None and quiet <= final_s else None,
        final_s=final_s,
        final_told_s=after(told.get("final")),
    )


def _told(
    db: sqlite3.Connection, key: SeriesKey, report_id: str
) -> tuple[float | None, dict[str, float | None]]:
    """When the series was said to be complete, and when the broker took each form of the report."""
    rows = db.execute(
        """SELECT body, created, delivered_at FROM owed
        WHERE study_uid = ? AND series_uid = ? AND destination = ? ORDER BY id""",
        (key.study, key.series, mqtt.MQTT),
    )
    judged: float | None = None
    told: dict[str, float | None] = {}
    for row in rows:
        said = mqtt.said(row["body"])
        if said is None:
            continue
        if said.event == "complete":
            judged = row["created"]
        elif said.report_id == report_id and said.stage is not None:
            told.setdefault(said.stage, row["delivered_at"])
    return judged, told
