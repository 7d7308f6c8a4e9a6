"""What is to be compared with earlier exams, and what was compared.

    comparisons   a row a standing final report of a chest CT, written in its transaction
    compared      each comparison as it was published, the superseded ones too

Rules
- A row waits until its entry is kept and its comparisons are committed. It outlives any process:
  what ends the child that compares leaves it waiting.
- It keeps no image from being deleted, because a disk that is full would stay so: no comparison is
  worth that a scanner is refused. Where the images of a waiting row go, it goes with them.
- Comparisons, the messages that are owed of them and the end of their row are one transaction.
- A report that stands no more is `withdrawn`: who compares takes its entry away, then the row goes,
  and the exams that were compared with it wait again.
- Where a person discarded the images of a series so that they come again with another header, it
  may be another person's: its entry goes, and is made anew when the images are here again.
- A series that is deleted takes its rows with it. The release before, which knows no such table,
  leaves them: a row without a report is passed over, and goes when the next one is looked for.
- Of a file that has not taken the step to schema 6 all of this is empty, and nothing is noted: a
  release on trial compares nothing (`steps`).
- A damaged journal loses these rows. `Journal.uncompared` finds the reports without one again.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from pydantic import ValidationError

from appliance.comparison import Comparison
from appliance.reasons import Code
from appliance.report import SeriesKey
from appliance.results.owed import Owed
from appliance.store.journal import steps
from appliance.store.journal.audit import Audit
from appliance.store.journal.database import Database
from appliance.store.journal.owed import Outbox
from appliance.store.journal.part import Part, columns
from appliance.store.rows import ToCompare

SINCE: Final = 6
"""The schema that has the tables."""
ACTOR: Final = "compare"
"""Of the audit."""
ALARMING: Final = frozenset({Code.IDENTITY_MISMATCH, Code.IMAGES_DISAGREE, Code.LATERALITY})
"""Two exams of one id that may be of two people, or mirrored: actions of the audit."""
_ROW: Final = columns(ToCompare)
DISCARDED: Final = "its images were discarded, to be sent again"
"""`last_error` of what waits for images, not for the child."""
FORGOTTEN: Final = """INSERT INTO comparisons
  (report_id, study_uid, series_uid, bundle_digest, prior_only, state, attempts, since)
  SELECT report_id, study_uid, series_uid, bundle_digest, 0, 'done', 0, ? FROM reports
  WHERE report_id = ? AND bundle_digest IS NOT NULL LIMIT 1"""
"""Nothing is to be kept of a report again that a person had forgotten."""


class Comparisons(Part):
    """`journal.comparisons`."""

    def __init__(
        self, database: Database, clock: Callable[[], float], outbox: Outbox, audit: Audit
    ) -> None:  # fmt: skip
        super().__init__(database, clock)
        self._outbox = outbox
        self._audit = audit

    # What `work` says, within the transaction of a report.

    def owe_in(
        self,
        db: sqlite3.Connection,
        stands: Iterable[ToCompare],
        withdrawn: Iterable[uuid.UUID] = (),
    ) -> None:
        """These reports stand, and these stand no more. What is done already is not done again,
        unless it is an exam now and was none."""
        if not are_here(db):
            return
        for report_id in withdrawn:
            db.execute(
                """UPDATE comparisons SET state = 'withdrawn', attempts = 0, since = ?
                WHERE report_id = ? AND state != 'withdrawn'""",
                (self._clock(), str(report_id)),
            )
        for one in stands:
            db.execute(
                """INSERT INTO comparisons (report_id, study_uid, series_uid, bundle_digest,
                  prior_only, state, attempts, since) VALUES (?, ?, ?, ?, ?, 'waiting', 0, ?)
                ON CONFLICT (report_id) DO UPDATE SET state = 'waiting', attempts = 0,
                  prior_only = excluded.prior_only, since = excluded.since, last_error = NULL
                WHERE state = 'withdrawn' OR prior_only > excluded.prior_only""",
                (
                    one.report_id,
                    one.study_uid,
                    one.series_uid,
                    one.bundle_digest,
                    int(one.prior_only),
                    self._clock(),
                ),
            )

    def exam_in(self, db: sqlite3.Connection, study_uid: str) -> None:
        """A study that came from senders of earlier exams alone is an exam like any other now."""
        if are_here(db):
            db.execute(
                """UPDATE comparisons SET prior_only = 0, state = 'waiting', attempts = 0,
                  since = ? WHERE study_uid = ? AND prior_only = 1 AND state != 'withdrawn'""",
                (self._clock(), study_uid),
            )

    def sent_again(self, report_id: uuid.UUID) -> bool:
        """The images of a report are here that were discarded, and say the same: it waits again,
        for its entry. Whether it does."""
        with self._db.write() as db:
            if not are_here(db):
                return False
            return bool(
                db.execute(
                    """UPDATE comparisons SET state = 'waiting', attempts = 0, since = ?,
                      last_error = NULL
                    WHERE report_id = ? AND state IN ('done', 'dead') AND last_error = ?""",
                    (self._clock(), str(report_id), DISCARDED),
                ).rowcount
            )

    # Looking.

    def any(self) -> bool:
        """Whether anything is to be done."""
        with self._db.look() as db:
            if not are_here(db):
                return False
            return (
                db.execute(
                    "SELECT 1 FROM comparisons WHERE state IN ('waiting', 'withdrawn') LIMIT 1"
                ).fetchone()
                is not None
            )

    def to_do(self) -> list[ToCompare]:
        """What is to be done, withdrawals first, then the earlier exams that are owed nothing, then
        the exam that has waited longest; rows without a report go."""
        with self._db.write() as db:
            if not are_here(db):
                return []
            db.execute(
                """DELETE FROM comparisons WHERE state = 'waiting' AND NOT EXISTS
                (SELECT 1 FROM reports WHERE reports.report_id = comparisons.report_id)"""
            )
            rows = db.execute(
                f"""SELECT {_ROW} FROM comparisons WHERE state IN ('waiting', 'withdrawn')
                ORDER BY state = 'withdrawn' DESC, prior_only DESC, since, rowid"""
            ).fetchall()
        return [_row(r) for r in rows]

    def row(self, report_id: uuid.UUID | str) -> ToCompare | None:
        """The row of a report, whatever its state."""
        with self._db.look() as db:
            row = (
                db.execute(
                    f"SELECT {_ROW} FROM comparisons WHERE report_id = ?", (str(report_id),)
                ).fetchone()
                if are_here(db)
                else None
            )
        return None if row is None else _row(row)

    def standing(self, report_id: uuid.UUID | str) -> list[Comparison]:
        """The comparisons of a report that count, in the order in which they were first said."""
        return self._all("report_id = ? AND superseded_by IS NULL", str(report_id))

    def of_report(self, report_id: uuid.UUID | str) -> list[Comparison]:
        """Every comparison of a report, the superseded ones too."""
        return self._all("report_id = ?", str(report_id))

    def get(self, comparison_id: uuid.UUID | str) -> Comparison | None:
        """A comparison as it was published, whether or not it still counts."""
        return next(iter(self._all("comparison_id = ?", str(comparison_id))), None)

    def mark_of(self, study_uid: str) -> str:
        """Another text whenever something else is said of the comparisons of a study, or of their
        pairs."""
        with self._db.look() as db:
            if not are_here(db):
                return ""
            row = db.execute(
                """SELECT group_concat(state) AS states,
                  (SELECT count(*) || ' ' || total(at) FROM compared WHERE report_id IN
                    (SELECT report_id FROM comparisons WHERE study_uid = :study)) AS said,
                  (SELECT count(*) FROM pairs WHERE report_id IN
                    (SELECT report_id FROM comparisons WHERE study_uid = :study)) AS judged
                FROM comparisons WHERE study_uid = :study""",
                {"study": study_uid},
            ).fetchone()
        return f"{row['states']} {row['said']} {row['judged']}"

    def alarms(self) -> dict[str, int]:
        """How often what is wrong about a person was found, by code: since the audit began."""
        marks = ", ".join("?" * len(ALARMING))
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT action, count(*) AS times FROM audit WHERE actor = ?
                AND action IN ({marks}) GROUP BY action""",
                (ACTOR, *sorted(code.value for code in ALARMING)),
            ).fetchall()
        return {str(row["action"]): int(row["times"]) for row in rows}

    def _all(self, where: str, value: str) -> list[Comparison]:
        with self._db.look() as db:
            if not are_here(db):
                return []
            rows = db.execute(
                f"SELECT json FROM compared WHERE {where} ORDER BY at, rowid", (value,)
            ).fetchall()
        found = []
        for row in rows:
            with suppress(ValidationError):  # of a later release, which says what is unknown here
                found.append(Comparison.stored(row["json"]))
        return found

    def note(self, stands: Iterable[ToCompare]) -> None:
        """These reports stand, and nobody noted it with them."""
        with self._db.write() as db:
            self.owe_in(db, stands)

    # What who compares says.

    def commit(
        self,
        report_id: uuid.UUID,
        said: Sequence[Comparison],
        *,
        superseded: Iterable[uuid.UUID],
        owed: Iterable[Owed],
        audited: Iterable[tuple[str, Mapping[str, object]]] = (),
        dead: str | None = None,
    ) -> bool:
        """All that is said of a report from now on, what is superseded by it, what is owed of it,
        and the end of its row: one transaction. False, and nothing is changed, where the row does
        not wait any more, as where its report was withdrawn or deleted meanwhile.

        audited: action and detail of rows for the audit. dead: why it could not be compared, after
        the last try.
        """
        with self._db.write() as db:
            ended = db.execute(
                """UPDATE comparisons SET state = ?, last_error = ?
                WHERE report_id = ? AND state = 'waiting'""",
                ("done" if dead is None else "dead", dead, str(report_id)),
            ).rowcount
            if not ended:
                return False
            for one in said:
                prior = str(one.prior.report_id) if one.prior else None
                db.execute(
                    """INSERT INTO compared (comparison_id, report_id, prior_report_id, at, json)
                    VALUES (?, ?, ?, ?, ?) ON CONFLICT (comparison_id) DO UPDATE SET
                      json = excluded.json, superseded_by = NULL""",
                    (
                        str(one.comparison_id),
                        str(report_id),
                        prior,
                        self._clock(),
                        one.model_dump_json(by_alias=True),
                    ),
                )
            by = str(said[0].comparison_id) if said else None
            for old in superseded:
                db.execute(
                    "UPDATE compared SET superseded_by = coalesce(?, comparison_id) "
                    "WHERE comparison_id = ?",
                    (by, str(old)),
                )
            self._outbox.add_in(db, owed)
            for action, detail in audited:
                self._audit.add_in(db, ACTOR, action, dict(detail))
        return True

    def again(self, report_ids: Iterable[str]) -> int:
        """These wait again, where they were done and are exams: an earlier exam came, or went. How
        many do."""
        with self._db.write() as db:
            if not are_here(db):
                return 0
            return self._again_in(db, report_ids)

    def _again_in(self, db: sqlite3.Connection, report_ids: Iterable[str]) -> int:
        return sum(
            db.execute(
                """UPDATE comparisons SET state = 'waiting', attempts = 0, since = ?
                WHERE report_id = ? AND state IN ('done', 'dead') AND prior_only = 0""",
                (self._clock(), report_id),
            ).rowcount
            for report_id in report_ids
        )

    def withdrawn(self, report_id: str) -> list[str]:
        """What was kept of a withdrawn report is gone: so is its row. The reports that were
        compared with it wait again; their ids. Its own comparisons count no more."""
        with self._db.write() as db:
            if not db.execute(
                "DELETE FROM comparisons WHERE report_id = ? AND state = 'withdrawn'", (report_id,)
            ).rowcount:
                return []  # it stands again
            db.execute(
                """UPDATE compared SET superseded_by = comparison_id
                WHERE report_id = ? AND superseded_by IS NULL""",
                (report_id,),
            )
            rows = db.execute(
                """SELECT DISTINCT report_id FROM compared
                WHERE prior_report_id = ? AND superseded_by IS NULL""",
                (report_id,),
            ).fetchall()
            found = [str(row["report_id"]) for row in rows]
            self._again_in(db, found)
        return found

    def failed(self, report_id: str, why: str) -> int:
        """One try failed; how many have. why: for a person, and without a word of a header."""
        with self._db.write() as db:
            row = db.execute(
                """UPDATE comparisons SET attempts = attempts + 1, last_error = ?
                WHERE report_id = ? RETURNING attempts""",
                (why, report_id),
            ).fetchone()
        return 0 if row is None else int(row["attempts"])

    def forget(self, report_ids: Sequence[str]) -> list[tuple[str, str]]:
        """A person has the exams of these reports forgotten: what was said of them beside others,
        and of others beside them, goes. Report and comparison of each that went, for who deletes
        what is kept beside the reports. Those that still stand are noted as done: one without a
        row would be taken for one that nobody noted (`Journal.uncompared`) and kept again."""
        marks = ", ".join("?" * len(report_ids))
        with self._db.write() as db:
            if not are_here(db):
                return []
            rows = db.execute(
                f"""DELETE FROM compared WHERE report_id IN ({marks})
                OR prior_report_id IN ({marks}) RETURNING report_id, comparison_id""",
                (*report_ids, *report_ids),
            ).fetchall()
            db.execute(f"DELETE FROM comparisons WHERE report_id IN ({marks})", report_ids)
            db.executemany(FORGOTTEN, [(self._clock(), one) for one in report_ids])
        return [(str(row["report_id"]), str(row["comparison_id"])) for row in rows]

    def let_go(self) -> int:
        """Nothing is to be kept of any exam any more: what waits does not. How many did."""
        with self._db.write() as db:
            if not are_here(db):
                return 0
            return db.execute("DELETE FROM comparisons WHERE state = 'waiting'").rowcount

    # Deletion, within the caller's transaction.

    def discarded_in(self, db: sqlite3.Connection, key: SeriesKey) -> None:
        """The images of the series are discarded, and its entries with them: what was compared
        with these waits again."""
        if not are_here(db):
            return
        of = (key.study, key.series)
        db.execute(
            """UPDATE comparisons SET state = 'done', last_error = ?
            WHERE study_uid = ? AND series_uid = ? AND state != 'withdrawn'""",
            (DISCARDED, *of),
        )
        rows = db.execute(
            """SELECT DISTINCT compared.report_id FROM compared JOIN reports
              ON reports.report_id = compared.prior_report_id
            WHERE reports.study_uid = ? AND reports.series_uid = ?
              AND compared.superseded_by IS NULL""",
            of,
        ).fetchall()
        self._again_in(db, [str(row["report_id"]) for row in rows])

    def forget_in(self, db: sqlite3.Connection, key: SeriesKey) -> None:
        """The series is deleted; its reports are still there. What is kept of them stays."""
        if not are_here(db):
            return
        of = (key.study, key.series)
        db.execute(
            """DELETE FROM compared WHERE report_id IN
            (SELECT report_id FROM reports WHERE study_uid = ? AND series_uid = ?)""",
            of,
        )
        db.execute(
            """DELETE FROM comparisons WHERE study_uid = ? AND series_uid = ?
            AND state != 'withdrawn'""",
            of,
        )


def are_here(db: sqlite3.Connection) -> bool:
    """Whether the file has taken the step."""
    return steps.header(db).schema >= SINCE


def _row(row: sqlite3.Row) -> ToCompare:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a Row yields values
    return ToCompare(**{**values, "prior_only": bool(row["prior_only"])})
