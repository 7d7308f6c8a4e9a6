"""What came of the attempts to analyse a series: failures, deaths of the machine, another try.

The rules are in `work/blame.py`; here is what is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from appliance.host.boot import boot_id
from appliance.report import SeriesKey
from appliance.store.journal.audit import Audit
from appliance.store.journal.database import Database
from appliance.store.journal.part import Part, as_row, columns
from appliance.store.journal.series import SeriesPart
from appliance.store.rows import Series


class Attempts(Part):
    """`journal.attempts`."""

    def __init__(
        self, database: Database, clock: Callable[[], float], series: SeriesPart, audit: Audit
    ) -> None:
        super().__init__(database, clock)
        self._series = series
        self._audit = audit

    def add(self, key: SeriesKey) -> int:
        """One attempt to analyse it failed. Returns how many did since something new came."""
        with self._db.write() as db:
            row = db.execute(
                """UPDATE series SET attempts = attempts + 1, attempt_boot = ?, updated = ?
                WHERE study_uid = ? AND series_uid = ? RETURNING attempts""",
                (boot_id(), self._clock(), key.study, key.series),
            ).fetchone()
        return int(row[0]) if row else 0

    def suspect(self, key: SeriesKey, boot: str, step: str) -> int:
        """The machine died in this boot while the series was at this step. Returns how often, at
        this step and with nothing finished between. The same boot counts once."""
        with self._db.write() as db:
            row = db.execute(
                """UPDATE series SET
                  suspected = CASE
                    WHEN suspect_boot = :boot AND suspect_step = :step THEN suspected
                    WHEN suspect_step = :step THEN suspected + 1
                    ELSE 1 END,
                  suspect_boot = :boot, suspect_step = :step
                WHERE study_uid = :study AND series_uid = :series RETURNING suspected""",
                {"boot": boot, "step": step, "study": key.study, "series": key.series},
            ).fetchone()
        return int(row[0]) if row else 0

    def suspects(self) -> list[Series]:
        """Series during which the machine died, with nothing finished since."""
        with self._db.look() as db:
            rows = db.execute(
                f"SELECT {columns(Series)} FROM series WHERE suspected > 0 ORDER BY last_at"
            )
            return [as_row(Series, r) for r in rows]

    def end(self, key: SeriesKey) -> None:
        """It is concluded: whatever becomes of the next attempt, it is the first again; and the
        machine has finished something, so no series is suspected any more."""
        with self._db.write() as db:
            db.execute(
                """UPDATE series SET attempts = 0 WHERE study_uid = ? AND series_uid = ?
                AND attempts > 0""",
                (key.study, key.series),
            )
            db.execute(
                """UPDATE series SET suspected = 0, suspect_boot = NULL, suspect_step = NULL
                WHERE suspected > 0"""
            )

    def failed(self, key: SeriesKey, *, instances: int, made_of: str) -> None:
        """It failed with these bundles and this appliance (`failed_with`)."""
        with self._db.write() as db:
            self._series.set_in(db, key, "failed", instances=instances)
            db.execute(
                "UPDATE series SET failed_with = ? WHERE study_uid = ? AND series_uid = ?",
                (made_of, key.study, key.series),
            )

    def failed_with_other(self, made_of: str) -> list[SeriesKey]:
        """Failed series that were not tried with this; of those of an earlier release it is not
        known with what."""
        with self._db.look() as db:
            rows = db.execute(
                """SELECT study_uid, series_uid FROM series
                WHERE state = 'failed' AND failed_with IS NOT ? ORDER BY last_at""",
                (made_of,),
            )
            return [SeriesKey(row["study_uid"], row["series_uid"]) for row in rows]

    def renew(self, keys: Iterable[SeriesKey], made_of: str, *, left_off: int) -> None:
        """These are open again, as if so many attempts had failed."""
        with self._db.write() as db:
            db.executemany(
                """UPDATE series SET state = 'open', attempts = ?, failed_with = ?, updated = ?
                WHERE study_uid = ? AND series_uid = ? AND state = 'failed'""",
                [(left_off, made_of, self._clock(), key.study, key.series) for key in keys],
            )

    def retry(self, actor: str, keys: Sequence[SeriesKey]) -> int:
        """A person has failed series tried again, with all their chances; how many. Audited."""
        with self._db.write() as db:
            count = db.executemany(
                """UPDATE series SET state = 'open', attempts = 0, suspected = 0,
                  suspect_boot = NULL, suspect_step = NULL, updated = ?
                WHERE study_uid = ? AND series_uid = ? AND state = 'failed'""",
                [(self._clock(), key.study, key.series) for key in keys],
            ).rowcount
            if count:
                detail: dict[str, object] = {"series": [key.series for key in keys]}
                self._audit.add_in(db, actor, "series_retry", detail)
        return count
