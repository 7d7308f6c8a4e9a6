"""Associations, what each brought of which series, and what `work` says of each series.

Rules
- No row per slice: a receiver writes when the first instance of a series arrives in an association
  and when the association ends. How many slices there are is the spool's to say.
- New instances of a judged series open it again; only `work` says what a series is.
- An association whose process is gone is `lost`: of another boot, or not there as it started.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import uuid
from pathlib import Path
from typing import Final

from appliance.host.boot import boot_id
from appliance.report import SeriesKey
from appliance.store.journal import steps
from appliance.store.journal.part import Part, as_row, columns
from appliance.store.rows import Arrival, Association, Outcome, Series, SeriesState

_ASSOCIATION: Final = columns(Association)
_SERIES: Final = columns(Series)
SILENCE_SINCE: Final = 6
"""The schema that has the column `silent`."""


class SeriesPart(Part):
    """`journal.series`."""

    # Associations and arrivals: written by `receive`.

    def association_opened(
        self, *, calling_ae: str, called_ae: str, host: str, pid: int | None = None
    ) -> str:
        """A new association of the process `pid` (default: this one); returns its id."""
        row = uuid.uuid4().hex
        pid = os.getpid() if pid is None else pid
        with self._db.write() as db:
            db.execute(
                """INSERT INTO associations
                (id, calling_ae, called_ae, host, pid, pid_started, boot, opened)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                (
                    row,
                    calling_ae,
                    called_ae,
                    host,
                    pid,
                    _started(pid) or 0,
                    boot_id(),
                    self._clock(),
                ),
            )
        return row

    def association_ended(self, association_id: str, outcome: Outcome) -> None:
        """Its end; the first outcome that was written stays."""
        with self._db.write() as db:
            db.execute(
                "UPDATE associations SET ended = ?, outcome = ? WHERE id = ? AND ended IS NULL",
                (self._clock(), outcome, association_id),
            )

    def open_associations(self) -> list[Association]:
        """Those without an end."""
        with self._db.look() as db:
            rows = db.execute(
                f"SELECT {_ASSOCIATION} FROM associations WHERE ended IS NULL ORDER BY opened"
            )
            return [as_row(Association, r) for r in rows]

    def recover_associations(self) -> list[str]:
        """Mark as `lost` each open association whose process is gone; their ids."""
        now = boot_id()
        gone = [
            a.id
            for a in self.open_associations()
            if a.boot not in ("", now) or _started(a.pid) != a.pid_started
        ]
        for association in gone:
            self.association_ended(association, "lost")
        return gone

    def arrived(
        self,
        association_id: str,
        key: SeriesKey,
        *,
        calling_ae: str,
        instances: int,
        at: float,
        first_at: float | None = None,
    ) -> None:
        """The association has newly stored `instances` of the series so far, the last one `at`.

        May be called again with a higher count. The first of an association, and more than `work`
        has judged, opens the series again.
        """
        facts = {
            "association": association_id,
            "study": key.study,
            "series": key.series,
            "ae": calling_ae,
            "first": at if first_at is None else first_at,
            "last": at,
            "instances": instances,
            "now": self._clock(),
        }
        with self._db.write() as db:
            self._arrived_in(db, facts)

    def _arrived_in(self, db: sqlite3.Connection, facts: dict[str, object]) -> None:
        known = db.execute(
            """SELECT 1 FROM arrivals WHERE association = :association
            AND study_uid = :study AND series_uid = :series""",
            facts,
        ).fetchone()
        db.execute(
            """INSERT INTO arrivals
            (association, study_uid, series_uid, first_at, last_at, instances)
            VALUES (:association, :study, :series, :first, :last, :instances)
            ON CONFLICT (association, study_uid, series_uid) DO UPDATE SET
              first_at = min(first_at, excluded.first_at),
              last_at = max(last_at, excluded.last_at),
              instances = max(instances, excluded.instances)""",
            facts,
        )
        db.execute(
            """INSERT INTO series
            (study_uid, series_uid, state, calling_ae, first_at, last_at, updated)
            VALUES (:study, :series, 'open', :ae, :first, :last, :now)
            ON CONFLICT (study_uid, series_uid) DO UPDATE SET
              calling_ae = :ae,
              first_at = min(first_at, :first),
              last_at = max(last_at, :last),
              updated = :now""",
            facts,
        )
        db.execute(
            """UPDATE series SET state = 'open', attempts = 0
            WHERE study_uid = :study AND series_uid = :series AND state != 'open'
            AND (:unknown OR instances < (SELECT sum(instances) FROM arrivals
              WHERE study_uid = :study AND series_uid = :series))""",
            {**facts, "unknown": known is None},
        )

    def arrivals(self, key: SeriesKey) -> list[Arrival]:
        """What each association brought of the series, in order of their first instance."""
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT {_ASSOCIATION}, first_at, last_at, instances
                FROM arrivals JOIN associations ON associations.id = association
                WHERE study_uid = ? AND series_uid = ? ORDER BY first_at""",
                (key.study, key.series),
            ).fetchall()
        return [
            Arrival(as_row(Association, r), r["first_at"], r["last_at"], r["instances"])
            for r in rows
        ]

    def copy_to(self, other: SeriesPart) -> None:
        """Every association here and what it brought, as if it had been written there."""
        with self._db.look() as db:
            associations = db.execute(f"SELECT {_ASSOCIATION} FROM associations").fetchall()
            arrivals = db.execute(
                """SELECT association, study_uid, series_uid, first_at, last_at, instances,
                  calling_ae
                FROM arrivals JOIN associations ON associations.id = association"""
            ).fetchall()
        marks = ", ".join("?" * len(dataclasses.fields(Association)))
        with other._db.write() as db:
            db.executemany(
                f"INSERT INTO associations ({_ASSOCIATION}) VALUES ({marks})",
                [tuple(row) for row in associations],
            )
            for row in arrivals:
                facts = {
                    "association": row["association"],
                    "study": row["study_uid"],
                    "series": row["series_uid"],
                    "ae": row["calling_ae"],
                    "first": row["first_at"],
                    "last": row["last_at"],
                    "instances": row["instances"],
                    "now": other._clock(),
                }
                other._arrived_in(db, facts)

    # What `work` says.

    def set(
        self,
        key: SeriesKey,
        state: SeriesState,
        *,
        instances: int | None = None,
        at: float | None = None,
    ) -> None:
        """The state of a series, known before or not. instances: how many the state is about.

        Give `instances` with every judgement: without it late slices do not open the series again
        and it is never deleted to make space. `at`: when it came, for one the journal never met.
        """
        with self._db.write() as db:
            self.set_in(db, key, state, instances=instances, at=at)

    def set_in(
        self,
        db: sqlite3.Connection,
        key: SeriesKey,
        state: SeriesState,
        *,
        instances: int | None,
        at: float | None = None,
    ) -> None:
        """The same, within the caller's transaction."""
        now = self._clock()
        db.execute(
            """INSERT INTO series
            (study_uid, series_uid, state, calling_ae, first_at, last_at, instances, updated)
            VALUES (:study, :series, :state, '', :at, :at, :instances, :now)
            ON CONFLICT (study_uid, series_uid) DO UPDATE SET
              state = :state, instances = coalesce(:instances, instances), updated = :now""",
            {
                "study": key.study,
                "series": key.series,
                "state": state,
                "at": now if at is None else at,
                "instances": instances,
                "now": now,
            },
        )

    def judged_in(
        self, db: sqlite3.Connection, key: SeriesKey
    ) -> tuple[SeriesState, int | None] | None:
        """The state of a series, and how many instances it is about; None: it is not known."""
        row = db.execute(
            "SELECT state, instances FROM series WHERE study_uid = ? AND series_uid = ?",
            (key.study, key.series),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def discard_in(self, db: sqlite3.Connection, key: SeriesKey) -> None:
        """The state of a series is about no instance any more."""
        db.execute(
            """UPDATE series SET instances = 0, updated = ?
            WHERE study_uid = ? AND series_uid = ?""",
            (self._clock(), key.study, key.series),
        )

    def restate_in(self, db: sqlite3.Connection, key: SeriesKey, state: SeriesState) -> None:
        """Another series of its study decided what became of this one; not while it arrives."""
        db.execute(
            """UPDATE series SET state = ?, updated = ? WHERE study_uid = ? AND series_uid = ?
            AND state IN ('analysed', 'set_aside')""",
            (state, self._clock(), key.study, key.series),
        )

    def name_in(self, db: sqlite3.Connection, key: SeriesKey, pseudonym: str) -> None:
        """Something was said of the series under this pseudonym of its study."""
        db.execute(
            """UPDATE series SET pseudonym = :pseudonym
            WHERE study_uid = :study AND series_uid = :series AND pseudonym IS NOT :pseudonym""",
            {"pseudonym": pseudonym, "study": key.study, "series": key.series},
        )

    # Studies that came from senders of earlier exams alone. A file of schema 5 knows none.

    def senders(self, study_uid: str) -> frozenset[str] | None:
        """AE titles of all that brought images of a study; None where that is not known of all of
        its series."""
        with self._db.look() as db:
            rows = db.execute(
                """SELECT calling_ae FROM arrivals JOIN associations
                ON associations.id = association WHERE study_uid = ?""",
                (study_uid,),
            ).fetchall()
            unknown = db.execute(
                """SELECT 1 FROM series WHERE study_uid = :study AND NOT EXISTS
                (SELECT 1 FROM arrivals WHERE arrivals.study_uid = :study
                 AND arrivals.series_uid = series.series_uid) LIMIT 1""",
                {"study": study_uid},
            ).fetchone()
        return None if unknown or not rows else frozenset(str(row["calling_ae"]) for row in rows)

    def may_be_silent(self) -> bool:
        """Whether the file can note that nothing is owed of a series."""
        with self._db.look() as db:
            return notes_silence(db)

    def silence_in(self, db: sqlite3.Connection, key: SeriesKey) -> None:
        """Nothing is owed of what was said of this series."""
        db.execute(
            "UPDATE series SET silent = 1 WHERE study_uid = ? AND series_uid = ?",
            (key.study, key.series),
        )

    def unsilence_in(self, db: sqlite3.Connection, study_uid: str) -> None:
        if notes_silence(db):
            db.execute("UPDATE series SET silent = NULL WHERE study_uid = ?", (study_uid,))

    def silent(self, study_uid: str) -> list[SeriesKey]:
        """The series of a study of which nothing is owed."""
        with self._db.look() as db:
            if not notes_silence(db):
                return []
            rows = db.execute(
                """SELECT study_uid, series_uid FROM series
                WHERE study_uid = ? AND silent = 1 ORDER BY first_at""",
                (study_uid,),
            ).fetchall()
        return [SeriesKey(row["study_uid"], row["series_uid"]) for row in rows]

    def set_stat(self, key: SeriesKey) -> None:
        """This series, and with it its study, is to be taken first."""
        with self._db.write() as db:
            db.execute(
                "UPDATE series SET priority = 'stat' WHERE study_uid = ? AND series_uid = ?",
                (key.study, key.series),
            )

    def set_stat_of_study(self, pseudonym: str) -> int:
        """The same for all series of a study of which something was said; how many they are."""
        with self._db.write() as db:
            return db.execute(
                "UPDATE series SET priority = 'stat' WHERE pseudonym = ?", (pseudonym,)
            ).rowcount

    # Looking.

    def all(self, *states: SeriesState) -> list[Series]:
        """Series in one of these states (none given: all), the oldest arrival first."""
        marks = ", ".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        with self._db.look() as db:
            rows = db.execute(f"SELECT {_SERIES} FROM series {where} ORDER BY last_at", states)
            return [as_row(Series, r) for r in rows]

    def get(self, key: SeriesKey) -> Series | None:
        with self._db.look() as db:
            row = db.execute(
                f"SELECT {_SERIES} FROM series WHERE study_uid = ? AND series_uid = ?",
                (key.study, key.series),
            ).fetchone()
        return as_row(Series, row) if row else None

    def named(self) -> frozenset[tuple[str, str]]:
        """Study Instance UID and pseudonym of every study of which something was said."""
        with self._db.look() as db:
            rows = db.execute(
                "SELECT DISTINCT study_uid, pseudonym FROM series WHERE pseudonym IS NOT NULL"
            )
            return frozenset((row[0], row[1]) for row in rows)

    def is_reused(self, key: SeriesKey) -> bool:
        """Whether a series of another study has the same Series Instance UID."""
        with self._db.look() as db:
            return (
                db.execute(
                    "SELECT 1 FROM series WHERE series_uid = ? AND study_uid != ? LIMIT 1",
                    (key.series, key.study),
                ).fetchone()
                is not None
            )

    def of_study(self, study_uid: str) -> list[Series]:
        """In order of their first arrival."""
        with self._db.look() as db:
            rows = db.execute(
                f"SELECT {_SERIES} FROM series WHERE study_uid = ? ORDER BY first_at", (study_uid,)
            )
            return [as_row(Series, r) for r in rows]


def notes_silence(db: sqlite3.Connection) -> bool:
    return steps.header(db).schema >= SILENCE_SINCE


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where there is none that lives."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()  # text would import a codec in every child
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # proc(5): from field 3 on, after the name
    return None if fields[0] in b"ZX" else int(fields[19])
