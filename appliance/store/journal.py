"""The journal: what happened, what was said, what is owed. One SQLite file for all stages.

Rules
- Every public method is one transaction; what it returned from is on disk (see `database`).
- Times are seconds since 1970, UTC, REAL. Reports and payloads carry their own ISO times.
- No row per slice: a receiver writes when the first instance of a series arrives in an association
  and when the association ends. How many slices there are is the spool's to say.
- A report and its messages are committed together, or not at all (an outbox). A message whose
  event_id is known is dropped silently, so a replay adds nothing; each other one gets the next
  `seq` of the device, which never goes back and is never used twice.
- Delivered, dead and dropped are final but for `retry`, which makes dead wait again.
- New instances of a judged series open it again; only `work` says what a series is.
- `audit` is append-only (triggers) and hash-chained: each row holds the SHA-256 of its content and
  the hash before it, the last number is counted apart. The chain shows changed, inserted and
  missing rows; whoever can rewrite the whole file can rewrite the chain, so publish `audit_head`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from appliance.store.database import Database
from appliance.store.outbox import ANY, Outbox
from appliance.store.rows import Kept, Series

__all__ = ["ANY", "JOURNAL_NAME", "Journal"]

JOURNAL_NAME = "journal.sqlite"
"""Its file in the state folder."""
EVENTS_MAX = 100_000


class Journal(Outbox):
    """Open with `Journal.open(path)`, as a context; one per process.

    Associations and series are in `arrivals`, reports and messages in `outbox`, facts and the
    chain in `audit`; deletion is here.
    """

    @classmethod
    def open(cls, path: Path, clock: Callable[[], float] = time.time) -> Journal:
        """Open or make the journal. StateUnusable where it is newer than this version."""
        return cls(Database(path), clock)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    # Deletion: for `retain`.

    def kept(self) -> list[Kept]:
        """Every series with what its deletion depends on, the oldest first."""
        with self._db.read() as db:
            rows = db.execute(
                """SELECT series.*,
                  (SELECT count(*) FROM messages WHERE messages.series_uid = series.series_uid
                     AND messages.state IN ('waiting', 'dead')) AS owed,
                  (SELECT group_concat(DISTINCT report_id) FROM reports
                     WHERE reports.series_uid = series.series_uid) AS report_ids,
                  EXISTS (SELECT 1 FROM reports r WHERE r.series_uid = series.series_uid
                     AND NOT EXISTS (SELECT 1 FROM reports f WHERE f.report_id = r.report_id
                       AND f.stage = 'final')
                     AND NOT EXISTS (SELECT 1 FROM reports n WHERE n.series_uid = r.series_uid
                       AND n.bundle_digest = r.bundle_digest AND n.revision > r.revision)
                  ) AS preliminary
                FROM series ORDER BY last_at"""
            ).fetchall()
        fields = [f.name for f in dataclasses.fields(Series)]
        return [
            Kept(
                Series(**{name: r[name] for name in fields}),
                r["owed"],
                bool(r["report_ids"]) and not r["preliminary"],
                tuple(sorted((r["report_ids"] or "").split(","))) if r["report_ids"] else (),
            )
            for r in rows
        ]

    def forget(self, series: Series) -> bool:
        """Delete the rows of a series that is as the caller saw it, and what hangs on it.

        False where it changed since. Delivered messages go with it; nothing owed is forgotten.
        """
        uid = series.series_uid
        with self._db.write() as db:
            owed = "SELECT 1 FROM messages WHERE series_uid = ? AND state IN ('waiting', 'dead')"
            if db.execute(owed, (uid,)).fetchone():
                return False
            if not db.execute(
                "DELETE FROM series WHERE series_uid = ? AND updated = ?", (uid, series.updated)
            ).rowcount:
                return False
            for table in ("arrivals", "reports", "messages"):
                db.execute(f"DELETE FROM {table} WHERE series_uid = ?", (uid,))  # noqa: S608 - the three names above
        return True

    def purge(self, before: float) -> None:
        """Delete events, ended associations without arrivals and settled loose messages.

        Of newer events the last EVENTS_MAX stay: a peer that is refused all day fills no disk.
        """
        with self._db.write() as db:
            db.execute(
                """DELETE FROM events
                WHERE at < ? OR id <= (SELECT max(id) FROM events) - ?""",
                (before, EVENTS_MAX),
            )
            db.execute(
                """DELETE FROM associations WHERE ended < ? AND NOT EXISTS
                (SELECT 1 FROM arrivals WHERE association = associations.id)""",
                (before,),
            )
            db.execute(
                """DELETE FROM messages WHERE series_uid IS NULL AND created < ?
                AND state IN ('delivered', 'dropped')""",
                (before,),
            )
