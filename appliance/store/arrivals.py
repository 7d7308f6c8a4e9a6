"""Associations, what they brought, and what `work` says of each series. Part of the journal."""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path

from appliance.store.part import Part, as_row
from appliance.store.rows import Arrival, Association, Outcome, Series, SeriesState


class Arrivals(Part):
    """Associations and series."""

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
                (id, calling_ae, called_ae, host, pid, pid_started, opened)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                (row, calling_ae, called_ae, host, pid, _started(pid) or 0, self._clock()),
            )
        return row

    def association_ended(self, association_id: str, outcome: Outcome) -> None:
        """Its end; the first outcome that was written stays."""
        with self._db.write() as db:
            db.execute(
                "UPDATE associations SET ended = ?, outcome = ? WHERE id = ? AND ended IS NULL",
                (self._clock(), outcome, association_id),
            )

    def arrived(
        self,
        association_id: str,
        *,
        series_uid: str,
        study_uid: str,
        calling_ae: str,
        instances: int,
        at: float,
        first_at: float | None = None,
    ) -> None:
        """The association has newly stored `instances` of the series so far, the last one `at`.

        May be called again with a higher count. The first of an association, and more than `work`
        has judged, opens the series again.
        """
        first_at = at if first_at is None else first_at
        with self._db.write() as db:
            known = db.execute(
                "SELECT 1 FROM arrivals WHERE association = ? AND series_uid = ?",
                (association_id, series_uid),
            ).fetchone()
            db.execute(
                """INSERT INTO arrivals
                (association, series_uid, study_uid, first_at, last_at, instances)
                VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (association, series_uid) DO UPDATE SET
                  first_at = min(first_at, excluded.first_at),
                  last_at = max(last_at, excluded.last_at),
                  instances = max(instances, excluded.instances)""",
                (association_id, series_uid, study_uid, first_at, at, instances),
            )
            db.execute(
                """INSERT INTO series
                (series_uid, study_uid, state, calling_ae, first_at, last_at, updated)
                VALUES (:series, :study, 'open', :ae, :first, :last, :now)
                ON CONFLICT (series_uid) DO UPDATE SET
                  calling_ae = :ae,
                  first_at = min(first_at, :first),
                  last_at = max(last_at, :last),
                  updated = :now""",
                {
                    "series": series_uid,
                    "study": study_uid,
                    "ae": calling_ae,
                    "first": first_at,
                    "last": at,
                    "now": self._clock(),
                },
            )
            db.execute(
                """UPDATE series SET state = 'open', attempts = 0
                WHERE series_uid = ? AND state != 'open' AND (? OR instances < (
                  SELECT sum(instances) FROM arrivals WHERE series_uid = series.series_uid))""",
                (series_uid, known is None),
            )

    def associations_of(self, series_uid: str) -> list[Arrival]:
        """Every association that brought some of the series, in order of their first instance."""
        with self._db.read() as db:
            rows = db.execute(
                """SELECT * FROM arrivals JOIN associations ON associations.id = association
                WHERE series_uid = ? ORDER BY first_at""",
                (series_uid,),
            ).fetchall()
        return [
            Arrival(
                as_row(Association, r),
                r["series_uid"],
                r["study_uid"],
                r["first_at"],
                r["last_at"],
                r["instances"],
            )
            for r in rows
        ]

    def open_associations(self) -> list[Association]:
        """Those without an end."""
        with self._db.read() as db:
            rows = db.execute("SELECT * FROM associations WHERE ended IS NULL ORDER BY opened")
            return [as_row(Association, r) for r in rows]

    def recover_associations(self) -> list[str]:
        """Mark as `lost` each open association whose process is gone; their ids."""
        gone = [a.id for a in self.open_associations() if _started(a.pid) != a.pid_started]
        for association in gone:
            self.association_ended(association, "lost")
        return gone

    # Series: what `work` says of them.

    def set_series(
        self,
        series_uid: str,
        study_uid: str,
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
            self._set_series(db, series_uid, study_uid, state, instances=instances, at=at)

    def _set_series(
        self,
        db: sqlite3.Connection,
        series_uid: str,
        study_uid: str,
        state: SeriesState,
        *,
        instances: int | None,
        at: float | None,
    ) -> None:
        now = self._clock()
        db.execute(
            """INSERT INTO series
            (series_uid, study_uid, state, calling_ae, first_at, last_at, instances, updated)
            VALUES (:series, :study, :state, '', :at, :at, :instances, :now)
            ON CONFLICT (series_uid) DO UPDATE SET
              state = :state, instances = coalesce(:instances, instances), updated = :now""",
            {
                "series": series_uid,
                "study": study_uid,
                "state": state,
                "at": now if at is None else at,
                "instances": instances,
                "now": now,
            },
        )

    def begin_attempt(self, series_uid: str) -> int:
        """Count one attempt, before it is made, so that a crash counts too. Returns the count."""
        with self._db.write() as db:
            db.execute(
                "UPDATE series SET attempts = attempts + 1, updated = ? WHERE series_uid = ?",
                (self._clock(), series_uid),
            )
            row = db.execute(
                "SELECT attempts FROM series WHERE series_uid = ?", (series_uid,)
            ).fetchone()
        return int(row[0]) if row else 0

    def end_attempt(self, series_uid: str) -> None:
        """The attempt came through: whatever becomes of the next one, it is the first again."""
        with self._db.write() as db:
            db.execute("UPDATE series SET attempts = 0 WHERE series_uid = ?", (series_uid,))

    def set_stat(self, *series_uids: str) -> None:
        """These series, and with them their studies, are to be taken first."""
        with self._db.write() as db:
            for uid in series_uids:
                db.execute("UPDATE series SET priority = 'stat' WHERE series_uid = ?", (uid,))

    def series(self, *states: SeriesState) -> list[Series]:
        """Series in one of these states (none given: all), the oldest arrival first."""
        marks = ", ".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        with self._db.read() as db:
            rows = db.execute(f"SELECT * FROM series {where} ORDER BY last_at", states)  # noqa: S608 - marks only
            return [as_row(Series, r) for r in rows]

    def series_of(self, series_uid: str) -> Series | None:
        with self._db.read() as db:
            row = db.execute("SELECT * FROM series WHERE series_uid = ?", (series_uid,)).fetchone()
        return as_row(Series, row) if row else None

    def series_of_study(self, study_uid: str) -> list[Series]:
        with self._db.read() as db:
            rows = db.execute(
                "SELECT * FROM series WHERE study_uid = ? ORDER BY first_at", (study_uid,)
            )
            return [as_row(Series, r) for r in rows]


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where there is none that lives."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()  # text would import a codec in every child
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # proc(5): from field 3 on, after the name
    return None if fields[0] in b"ZX" else int(fields[19])
