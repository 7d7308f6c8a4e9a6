"""The journal: what happened, what was said, what is owed. One SQLite file for all stages.

    journal.series    associations, what they brought, what `work` says of each series
    journal.attempts  what came of the attempts to analyse a series
    journal.reports   reports as they were committed
    journal.owed      the outbox: what is owed to each destination
    journal.told      what an object that was composed says for ever
    journal.feedback  what readers said of reports, for ever, and their comments
    journal.commitments  what archives are asked to promise, and what they answered
    journal.comparisons  what is to be compared with earlier exams, and what was
    journal.shown     what a page shows of it, read only
    journal.timings   how long reports took, also those of series that were deleted
    journal.events    facts that a person may ask for, such as refusals
    journal.audit     decisions that matter and who made them, hash-chained

Rules
- Every public method is one transaction; what it returned from is on disk (see `database`). What
  spans parts is here.
- Times are seconds since 1970, UTC, REAL. Reports and payloads carry their own ISO times.
- A report and what is owed of it are committed together, or not at all.
- A series is (study, series).
"""

from __future__ import annotations

import dataclasses
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from appliance.errors import StateUnusable
from appliance.reasons import Code
from appliance.report import Report, SeriesKey
from appliance.results.owed import Owed
from appliance.store import delivery
from appliance.store.delivery import Event
from appliance.store.files import DISK, Disk
from appliance.store.journal import comparisons, filing, steps
from appliance.store.journal.attempts import Attempts
from appliance.store.journal.audit import Audit
from appliance.store.journal.commitments import Commitments
from appliance.store.journal.comparisons import Comparisons
from appliance.store.journal.connect import BUSY_MS
from appliance.store.journal.damage import DAMAGED
from appliance.store.journal.database import Database, Manner
from appliance.store.journal.event_log import EventLog
from appliance.store.journal.feedback import FeedbackPart
from appliance.store.journal.ledger import ForgottenEntry, ReportEntry
from appliance.store.journal.owed import Outbox
from appliance.store.journal.pairs import Pairs
from appliance.store.journal.part import columns
from appliance.store.journal.reads import Reads
from appliance.store.journal.reports import Reports, read
from appliance.store.journal.series import SeriesPart
from appliance.store.journal.shown import Shown
from appliance.store.journal.timings import Timings
from appliance.store.journal.told import Told
from appliance.store.rows import Kept, Series, SeriesState, ToCompare

EVENTS_MAX = 100_000
MENDED_WITHIN_S = 60.0
"""Shorter than systemd waits for a stage to start."""
LOOK_AGAIN_S = 0.5


class Journal:
    """Open with `Journal.open(state)`, as a context; one per process."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = database
        self._clock = clock
        self._tidied: int | None = None
        """Bytes of the ledger when it was last tidied."""
        self.audit = Audit(database, clock)
        self.events = EventLog(database, clock)
        self.series = SeriesPart(database, clock)
        self.attempts = Attempts(database, clock, self.series, self.audit)
        self.reports = Reports(database, clock)
        self.owed = Outbox(database, clock, self.audit)
        self.told = Told(database, clock)
        self.feedback = FeedbackPart(database, clock, self.owed, self.audit)
        self.shown = Shown(database, clock)
        self.timings = Timings(database, clock)
        self.commitments = Commitments(database, clock, self.owed)
        self.comparisons = Comparisons(database, clock, self.owed, self.audit)
        self.pairs = Pairs(database, clock, self.audit)
        self.reads = Reads(database, clock, self.audit)

    @classmethod
    def open(
        cls,
        state: Path,
        clock: Callable[[], float] = time.time,
        disk: Disk = DISK,
        manner: Manner = Manner.LOOK,
        busy_ms: int = BUSY_MS,
    ) -> Journal:
        """Open or make the journal of a state folder. StateUnusable where a later release does not
        allow this one to use it, where the folder is missing, and where it is damaged
        (`Database.open`)."""
        return cls(Database.open(state, disk, manner, busy_ms), clock)

    @classmethod
    def awaited(cls, state: Path) -> Journal:
        """The same for a stage that cannot mend it: it waits until `work` has, for MENDED_WITHIN_S
        at most."""
        end = time.monotonic() + MENDED_WITHIN_S
        while True:
            try:
                return cls.open(state)
            except StateUnusable as e:
                if e.code != DAMAGED or time.monotonic() >= end:
                    raise
            time.sleep(LOOK_AGAIN_S)

    @classmethod
    def in_memory(cls) -> Journal:
        """An empty one, of which nothing stays."""
        return cls(Database.in_memory())

    @classmethod
    def read(cls, state: Path, busy_ms: int = BUSY_MS) -> Journal | None:
        """The journal for who only reads: nothing is made and nothing changed by it.

        None where there is no journal yet. StateUnusable as `open`, where only an earlier release
        left a journal (journal_waits), and by every method that would write.
        """
        database = Database.read(state, busy_ms)
        return cls(database) if database is not None else None

    def copy_to(self, other: Journal) -> None:
        """Associations, what they brought, and events, as if they had been written there."""
        self.series.copy_to(other.series)
        self.events.copy_to(other.events)

    def migrate(self, actor: str) -> bool:
        """Make it one of this release's schema, once the release is confirmed (`steps`); others
        may have it open meanwhile. False where it is one, or of a later release."""
        with self._db.write() as db:
            before = steps.header(db).schema
            if not steps.take(db, steps.newest()):
                return False
            detail: dict[str, object] = {"from": before, "to": steps.newest()}
            self.audit.add_in(db, actor, "journal migrate", detail)
        return True

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

    # What `work` says.

    def announce(self, key: SeriesKey, owed: Iterable[Owed], *, pseudonym: str) -> None:
        """What is said of a series before there is a report, under its study's pseudonym."""
        with self._db.write() as db:
            self.owed.add_in(db, owed)
            self.series.name_in(db, key, pseudonym)

    def commit_report(
        self,
        report: Report,
        key: SeriesKey,
        *,
        owed: Iterable[Owed],
        series_state: SeriesState,
        instances: int | None = None,
        restated: Iterable[tuple[SeriesKey, Report, SeriesState]] = (),
        compares: Iterable[ToCompare] = (),
        withdrawn: Iterable[uuid.UUID] = (),
        silent: bool = False,
    ) -> None:
        """The report, all that is owed of it and the state of its series: one transaction.

        A report that is there already (same report_id and stage) stays as it was first written, but
        for a later edition. restated: such editions of the reports of other series.
        compares: the reports that are to be compared from now on; withdrawn: those that stand no
        more. silent: nothing is owed, for its study came from senders of earlier exams alone.
        """
        with self._db.write() as db:
            self._write_report(db, report, key, series_state, instances)
            self.owed.add_in(db, owed)
            self.series.set_in(db, key, series_state, instances=instances)
            self.series.name_in(db, key, report.study.pseudonym)
            for other, edition, state in restated:
                self.series.restate_in(db, other, state)
                now = self.series.judged_in(db, other)
                if now is not None:  # else it was deleted meanwhile, and does not come back
                    self._write_report(db, edition, other, *now)
            self.comparisons.owe_in(db, compares, withdrawn)
            if silent:
                self.series.silence_in(db, key)

    def uncompared(self) -> list[tuple[SeriesKey, Report]]:
        """The latest reports that were analysed and are in no row of `comparisons`: of a release on
        trial, of one before, or of a journal that was damaged. None of a file of schema 5."""
        with self._db.look() as db:
            if not comparisons.are_here(db):
                return []
            rows = db.execute(
                """SELECT study_uid, series_uid, json FROM
                  (SELECT study_uid, series_uid, report_id, status, stage, json, created,
                     row_number() OVER (PARTITION BY study_uid, series_uid, bundle_digest
                      ORDER BY revision DESC, stage = 'final' DESC) AS nth FROM reports)
                WHERE nth = 1 AND status = 'analysed' AND stage = 'final' AND report_id NOT IN
                  (SELECT report_id FROM comparisons) ORDER BY created"""
            ).fetchall()
        return [
            (SeriesKey(r["study_uid"], r["series_uid"]), report)
            for r in rows
            if (report := read(r["json"])) is not None
        ]

    def say_after_all(self, study_uid: str, owed: Iterable[Owed]) -> None:
        """A study of which nothing was owed is an exam like any other: this is owed of it."""
        with self._db.write() as db:
            self.owed.add_in(db, owed)
            self.series.unsilence_in(db, study_uid)
            self.comparisons.exam_in(db, study_uid)

    def _write_report(
        self,
        db: sqlite3.Connection,
        report: Report,
        key: SeriesKey,
        state: SeriesState,
        instances: int | None,
    ) -> None:
        """A report, also into the ledger where it is new. state, instances: as the series has them
        with it."""
        at = self._clock()
        if self.reports.add_in(db, report, key, created=at):
            entry = ReportEntry(
                study=key.study,
                series=key.series,
                report_id=str(report.report_id),
                stage=report.stage.value,
                state=state,
                instances=instances,
                created=at,
                report=report.to_json(),
            )
            self._db.ledger.note(entry)

    def unsaid(self, destination: str, before: float) -> list[tuple[SeriesKey, Report]]:
        """Of each study whose series were all set aside, the last image before this time, and of
        which this destination was never owed a thing: the report that was made first. A study of
        which nothing came but what we have sent is none, nor is one of a water phantom."""
        with self._db.look() as db:
            rows = db.execute(
                """SELECT study_uid, series_uid, json, min(rowid) FROM reports
                WHERE stage = 'final' AND json_extract(json, '$.reasons[0].code') != ?
                AND study_uid NOT IN
                  (SELECT study_uid FROM reports
                   WHERE json_extract(json, '$.reasons[0].code') = ?)
                AND study_uid IN
                  (SELECT study_uid FROM series GROUP BY study_uid
                   HAVING min(state = 'set_aside') AND max(last_at) < ?)
                AND NOT EXISTS
                  (SELECT 1 FROM reports said JOIN owed ON owed.destination = ?
                     AND owed.key > said.report_id AND owed.key < said.report_id || '!'
                   WHERE said.study_uid = reports.study_uid)
                GROUP BY study_uid""",
                (Code.OWN_RESULT.value, Code.PHANTOM_QA.value, before, destination),
            ).fetchall()
        return [
            (SeriesKey(r["study_uid"], r["series_uid"]), report)
            for r in rows
            if (report := read(r["json"])) is not None
        ]

    def order_instead(self, destination: str, key: str, why: str, instead: Owed) -> bool:
        """What waits under `key` is owed in another form from now on, which its series must still
        be there for. False, and nothing is changed, where it is not, or where nothing waits."""
        with self._db.write() as db:
            if instead.series is None or self.series.judged_in(db, instead.series) is None:
                return False
            if not self.owed.settle_in(db, destination, key, Event.REPLACED, why):
                return False
            self.owed.add_in(db, [instead])
        return True

    def tidy(self, state: Path, disk: Disk = DISK) -> None:
        """Reports of the ledger go into files, and the ledger is shortened (`filing`)."""
        if self._db.ledger.size() == self._tidied:
            return  # nothing was added since
        with self._db.write() as db:
            filing.tidy(state, db, disk)
        self._tidied = self._db.ledger.size()

    def whole(self) -> str | None:
        """What is wrong with the file, by all that SQLite checks; None: nothing."""
        return self._db.whole()

    def discard(self, key: SeriesKey) -> None:
        """The images of a judged series are deleted: whatever comes is news. What was said of it
        stays as it is."""
        with self._db.write() as db:
            self.series.discard_in(db, key)
            self.comparisons.discarded_in(db, key)
            for entry in filing.report_entries(db, key):
                self._db.ledger.note(entry)

    # Deletion: for `retain`.

    def kept(self) -> list[Kept]:
        """Every series with what its deletion depends on, the oldest first."""
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT {columns(Series, "series")},
                  (SELECT count(*) FROM owed WHERE owed.study_uid = series.study_uid
                     AND owed.series_uid = series.series_uid AND owed.state IN (?, ?)) AS owed,
                  (SELECT group_concat(DISTINCT report_id) FROM reports
                     WHERE reports.study_uid = series.study_uid
                     AND reports.series_uid = series.series_uid) AS report_ids,
                  EXISTS (SELECT 1 FROM reports r WHERE r.study_uid = series.study_uid
                     AND r.series_uid = series.series_uid
                     AND NOT EXISTS (SELECT 1 FROM reports f WHERE f.report_id = r.report_id
                       AND f.stage = 'final')
                     AND NOT EXISTS (SELECT 1 FROM reports n WHERE n.study_uid = r.study_uid
                       AND n.series_uid = r.series_uid
                       AND n.bundle_digest = r.bundle_digest AND n.revision > r.revision)
                  ) AS preliminary
                FROM series ORDER BY last_at""",
                delivery.OWED,
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

        False where it changed since. What was delivered goes with it; nothing owed is forgotten.
        How long its reports took stays, without a word of whose they were (`timings`).
        """
        uids = (series.study_uid, series.series_uid)
        with self._db.write() as db:
            if self.owed.is_owed_in(db, series.key):
                return False
            timings = self.timings.of_series_in(db, series.key)
            if not db.execute(
                "DELETE FROM series WHERE study_uid = ? AND series_uid = ? AND updated = ?",
                (*uids, series.updated),
            ).rowcount:
                return False
            self.timings.keep_in(db, timings)
            self.comparisons.forget_in(db, series.key)
            for table in ("arrivals", "reports", "owed", "comments"):
                db.execute(f"DELETE FROM {table} WHERE study_uid = ? AND series_uid = ?", uids)
            self._db.ledger.note(ForgottenEntry(study=uids[0], series=uids[1]))
        return True

    def purge(self, before: float) -> None:
        """Delete events, ended associations without arrivals and what is settled, of no series;
        and what was told or asked, when it is as old as `told` and `commitments` say (never while
        nothing is old).

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
            self.owed.purge_in(db, before)
            if before > float("-inf"):
                self.told.purge_in(db)
                self.timings.purge_in(db)
                self.commitments.purge_in(db)
