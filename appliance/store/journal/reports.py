"""Reports as they were committed: both stages, every revision, one row a report and stage.

A report that a later release has made is read without what that one has added. Where it says what
this release does not know, no older one stands in for it: there is none to be shown, and the row
stays as it is.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import suppress
from importlib.metadata import version
from typing import Final

from pydantic import ValidationError

from appliance.report import Report, SeriesKey
from appliance.store.journal.part import Part, as_row
from appliance.store.journal.series import notes_silence
from appliance.store.rows import FinalReport

ANY: Final = "any"
"""In place of a bundle digest: whichever bundle. None means: the report that has no bundle."""


class Reports(Part):
    """`journal.reports`. They are added by `Journal.commit_report`."""

    def get(self, report_id: uuid.UUID | str) -> Report | None:
        """The report as committed; the final one where both stages are there."""
        return self._one("report_id = ?", (str(report_id),))

    def series_of(self, report_id: uuid.UUID | str) -> SeriesKey | None:
        """The series that a report is about."""
        with self._db.look() as db:
            row = db.execute(
                "SELECT study_uid, series_uid FROM reports WHERE report_id = ?", (str(report_id),)
            ).fetchone()
        return SeriesKey(row["study_uid"], row["series_uid"]) if row else None

    def latest(self, key: SeriesKey, bundle_digest: str | None = ANY) -> Report | None:
        """The latest revision, final before preliminary; of one bundle, of none (None), or ANY."""
        where, values = "study_uid = ? AND series_uid = ?", (key.study, key.series)
        if bundle_digest == ANY:
            return self._one(where, values)
        return self._one(f"{where} AND bundle_digest = ?", (*values, bundle_digest or ""))

    def of_input(
        self, key: SeriesKey, bundle_digest: str | None, input_digest: str
    ) -> Report | None:
        """The report of just this input; the final one where both stages are there."""
        return self._one(
            "study_uid = ? AND series_uid = ? AND bundle_digest = ? AND input_digest = ?",
            (key.study, key.series, bundle_digest or "", input_digest),
        )

    def of_study(self, study_uid: str) -> list[Report]:
        """All reports of a study, oldest first, both stages."""
        with self._db.look() as db:
            rows = db.execute(
                "SELECT json FROM reports WHERE study_uid = ? ORDER BY created, rowid", (study_uid,)
            )
            return [report for r in rows if (report := read(r[0])) is not None]

    def of_series(self, key: SeriesKey) -> list[Report]:
        """All reports of a series, oldest first, both stages."""
        with self._db.look() as db:
            rows = db.execute(
                """SELECT json FROM reports WHERE study_uid = ? AND series_uid = ?
                ORDER BY created, rowid""",
                (key.study, key.series),
            )
            return [report for r in rows if (report := read(r[0])) is not None]

    def recent(self, limit: int) -> list[Report]:
        """The newest reports first, both stages."""
        with self._db.look() as db:
            rows = db.execute(
                "SELECT json FROM reports ORDER BY created DESC, rowid DESC LIMIT ?", (limit,)
            )
            return [report for r in rows if (report := read(r[0])) is not None]

    def finals_after(self, report_id: str | None, limit: int) -> list[FinalReport]:
        """The final reports that were written after this one, the oldest first. All of them for
        None, and where this one is not here any more."""
        with self._db.look() as db:
            last = db.execute(
                "SELECT rowid FROM reports WHERE report_id = ? AND stage = 'final'", (report_id,)
            ).fetchone()
            silent = "coalesce(silent, 0)" if notes_silence(db) else "0"
            rows = db.execute(
                f"""SELECT report_id, reports.study_uid, input_digest, status, created,
                  json_extract(json, '$.reasons[0].code') AS code, {silent} AS silent
                FROM reports LEFT JOIN series ON series.study_uid = reports.study_uid
                  AND series.series_uid = reports.series_uid
                WHERE stage = 'final' AND reports.rowid > ? ORDER BY reports.rowid LIMIT ?""",
                (last[0] if last else 0, limit),
            ).fetchall()
        return [as_row(FinalReport, row) for row in rows]

    def next_revision(
        self, key: SeriesKey, bundle_digest: str | None, input_digest: str | None = None
    ) -> int:
        """The number for the next report of series and bundle, from 1.

        With `input_digest`: the number that this very input already has, if it has one.
        """
        of = (key.study, key.series, bundle_digest or "")
        with self._db.look() as db:
            known = db.execute(
                """SELECT revision FROM reports WHERE study_uid = ? AND series_uid = ?
                AND bundle_digest = ? AND input_digest = ?""",
                (*of, input_digest),
            ).fetchone()
            last = db.execute(
                """SELECT max(revision) FROM reports WHERE study_uid = ? AND series_uid = ?
                AND bundle_digest = ?""",
                of,
            ).fetchone()
        return int(known[0]) if known else int(last[0] or 0) + 1

    def add_in(
        self,
        db: sqlite3.Connection,
        report: Report,
        key: SeriesKey,
        *,
        created: float | None = None,
    ) -> bool:
        """One report; what is there already (same report_id and stage) stays as it was written, but
        for a later edition of it.

        created: when it was committed, None: now. Whether it was written.
        """
        written = db.execute(
            """INSERT INTO reports
            (report_id, study_uid, series_uid, bundle_digest, revision, supersedes, status,
             stage, input_digest, json, created)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (report_id, stage) DO UPDATE SET status = excluded.status,
              supersedes = excluded.supersedes, json = excluded.json
            WHERE json_extract(excluded.json, '$.edition')
              > coalesce(json_extract(reports.json, '$.edition'), 1)""",
            (
                str(report.report_id),
                key.study,
                key.series,
                report.bundle.digest if report.bundle else "",
                report.revision,
                str(report.supersedes) if report.supersedes else None,
                report.status.value,
                report.stage.value,
                report.input_digest,
                report.to_json(),
                self._clock() if created is None else created,
            ),
        )
        return written.rowcount > 0

    def _one(self, where: str, values: tuple[str, ...]) -> Report | None:
        with self._db.look() as db:
            row = db.execute(
                f"""SELECT json FROM reports WHERE {where}
                ORDER BY revision DESC, stage = 'final' DESC, created DESC, rowid DESC LIMIT 1""",
                values,
            ).fetchone()
            return read(row[0]) if row else None


def read(text: str) -> Report | None:
    """A report that was committed can be read, unless the file is damaged; None where a later
    release has made it and says what this one does not know, such as another reason."""
    try:
        return Report.stored(text)
    except ValidationError as e:
        if _is_of_a_later_release(text):
            return None
        raise sqlite3.DatabaseError(f"a report cannot be read: {e}"[:300]) from e


def _is_of_a_later_release(text: str) -> bool:
    with suppress(ValueError, TypeError, KeyError):
        return _numbers(json.loads(text)["appliance"]) > _numbers(version("scanside"))
    return False


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
