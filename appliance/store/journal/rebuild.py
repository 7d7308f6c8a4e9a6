"""A damaged journal is set aside, and a new one is made of what is kept beside it.

    spool         which series there are: each is looked at again, unless its last report counted
                  all of its images
    reports/      every report that was filed (`filing`), with the state of its series then, and
                  what archives were told of it
    the ledger    what is owed, in order, and of these and of feedback what is not filed yet
    feedback.entries    what readers said before
    the old file  its last `seq` and the head of its audit, if they can be read

Rules
- The old file and its log (`-wal`) get a second name and are never deleted; the log of the old file
  is gone before the new one takes the place, because SQLite would put it into the new one.
- Each step is durable before the next, and journal-damaged.json says since the first one that this
  is under way: after a power cut, a kill or a full disk the next start does all of it again. Until
  then nobody has used the new file, even where it has taken the place already.
- The next `seq` lies SEQ_AHEAD above the last known one: no number comes twice.
- All that is owed waits again under the same keys; what was dead dies again by the same answer.
  What was delivered just before may be sent once more.
- A report keeps its id, its revision and what it supersedes. No series that was reported is
  analysed again, unless more of it has come.
- The audit begins a new chain, whose first row names the head of the old one.
- Events, associations, readers' comments and who sent what are lost with the old file; a person may
  ask it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import time
from pathlib import Path

from pydantic import ValidationError

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey
from appliance.store.files import Disk
from appliance.store.journal import damage, feedback_rows, filing, ledger, steps
from appliance.store.journal.audit import Audit
from appliance.store.journal.connect import JOURNAL_NAME, connected
from appliance.store.journal.damage import SET_ASIDE, Damage
from appliance.store.journal.database import Database
from appliance.store.journal.ledger import LEDGER_NAME, DrawnEntry, ReportEntry
from appliance.store.journal.migrate import SEQ_AHEAD
from appliance.store.journal.owed import insert_in
from appliance.store.journal.reports import Reports
from appliance.store.journal.told import insert_in as tell_in
from appliance.store.spool import Spool

log = logging.getLogger(__name__)

WAL, INDEX = "-wal", "-shm"


def mend(state: Path, why: str, disk: Disk) -> None:
    """Set the journal aside and put a new one in its place. The caller holds the opener's lock.

    StateUnusable where the disk is full or fails: nothing is lost, and the next start goes on.
    """
    path = state / JOURNAL_NAME
    log.error("%s is damaged (%s): it is set aside, and a new one is made", path, why)
    folder = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        told = _set_aside(state, path, why, disk)
        old = state / told.file if told.file else None
        disk.make_folder(folder)
        told = _filled(state, folder / path.name, told, old, disk)
        damage.write(state, told, disk)
        for suffix in (WAL, INDEX):
            disk.remove(path.with_name(path.name + suffix))
        disk.move(folder / path.name, path)
        damage.write(state, told.model_copy(update={"finished": True}), disk)
    except (OSError, sqlite3.Error, StateUnusable) as e:
        raise StateUnusable(
            f"{path} is damaged ({why}), and no new one could be made: {e}",
            remedy="Free some space on that disk, or mend it: nothing is lost, and the next start "
            "tries again.",
            code=damage.DAMAGED,
        ) from e
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    log.error("%s", told.sentence())


def _set_aside(state: Path, path: Path, why: str, disk: Disk) -> Damage:
    """The damage as it is written down, and a second name for the old file and its log."""
    told = damage.read(state)
    if told is None or told.finished:
        before = [*told.earlier, *([told.file] if told.file else [])] if told else []
        now = time.time()
        name = _free(path, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)))
        file = name if path.exists() else None
        told = Damage(at=now, why=why, file=file, earlier=tuple(before))
        damage.write(state, told, disk)
    if told.file is not None:
        for suffix in (WAL, ""):
            source, target = (state / (name + suffix) for name in (path.name, told.file))
            if source.exists() and not target.exists():
                disk.link(source, target)
        disk.settle(state)
    return told


def _free(path: Path, date: str) -> str:
    """A name for the old file that nothing has."""
    name, count = f"{path.name}{SET_ASIDE}{date}", 1
    while path.with_name(name).exists():
        count += 1
        name = f"{path.name}{SET_ASIDE}{date}-{count}"
    return name


def _filled(state: Path, fresh: Path, told: Damage, old: Path | None, disk: Disk) -> Damage:
    """Make the new file, durable under another name; the damage with what it holds."""
    found = ledger.read(state / LEDGER_NAME)
    reports = dict(found.reports)
    for one in filing.filed(state):
        ids = one.report_id, one.stage
        known = reports.get(ids)
        if one.key not in found.forgotten if known is None else known.edition < one.edition:
            reports[ids] = one
    seq, head = _last_words(old)
    if (state / LEDGER_NAME).exists():
        ahead = max(seq, found.seq) + SEQ_AHEAD
        disk.append(state / LEDGER_NAME, ledger.encoded([DrawnEntry(seq=ahead)]))
    else:
        ahead = seq + SEQ_AHEAD
    with contextlib.ExitStack() as end:
        db = end.enter_context(contextlib.closing(connected(fresh)))
        # a power cut throws the whole file away, and it is synced below: no log is needed
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(f"BEGIN;{steps.made()}COMMIT;")
        database = Database(fresh, db, end.pop_all())
        with contextlib.closing(database), database.write() as inside:
            count = _enter_reports(inside, database, list(reports.values()))
            _enter_series(inside, state, list(reports.values()), found)
            _enter_told(inside, state, found)
            for entry in found.owed.values():
                insert_in(inside, entry)
            for said in (*filing.feedback_filed(state), *found.feedback.values()):
                feedback_rows.insert_in(inside, said)
            inside.execute("UPDATE counters SET value = ? WHERE name = 'seq'", (ahead,))
            (series,) = inside.execute("SELECT count(*) FROM series").fetchone()
            made = told.model_copy(
                update={"series": series, "reports": count, "owed": len(found.owed)}
            )
            detail = {**made.model_dump(exclude={"at", "finished"}), "head": head, "seq": ahead}
            Audit(database, time.time).add_in(inside, "work", damage.DAMAGED, detail)
    disk.sync_file(fresh)
    return made


def _last_words(old: Path | None) -> tuple[int, str]:
    """The last `seq` of the old file (0: unknown), and the head of its audit."""
    seq, head = 0, "it could not be read"
    if old is None or not old.exists():
        return seq, head
    unreadable = contextlib.suppress(sqlite3.Error, TypeError, ValueError)
    # read only, it stays as it is
    with unreadable, contextlib.closing(connected(old, "mode=ro")) as db:
        with unreadable:
            last = db.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
            head = f"row {int(last[0])}, {last[1]}" if last else "no row"
        for query in (
            "SELECT value FROM counters WHERE name = 'seq'",
            "SELECT max(seq) FROM owed",
        ):
            with unreadable:
                seq = max(seq, int(db.execute(query).fetchone()[0]))
    old.with_name(old.name + INDEX).unlink(missing_ok=True)
    return seq, head


def _enter_reports(
    db: sqlite3.Connection, database: Database, entries: list[ReportEntry]
) -> int:  # fmt: skip
    """Every report as it was committed, the oldest first; how many could be read."""
    part, count = Reports(database, time.time), 0
    for entry in sorted(entries, key=lambda one: one.created):
        with contextlib.suppress(ValidationError):
            report = Report.stored(entry.report)
            part.add_in(db, report, entry.key, created=entry.created)
            count += 1
    return count


def _enter_series(
    db: sqlite3.Connection, state: Path, reports: list[ReportEntry], found: ledger.Contents
) -> None:
    """Every series of which anything is left, as its last report had it; open without one."""
    spool = Spool(state)
    last = {entry.key: entry for entry in sorted(reports, key=lambda one: one.created)}
    owed = {
        SeriesKey(entry.study, entry.series)
        for entry in found.owed.values()
        if entry.study is not None and entry.series is not None
    }
    for key in sorted({*spool.series(), *last, *owed}):
        report = last.get(key)
        changed = spool.changed(key)
        at = changed / 1e9 if changed is not None else time.time()
        db.execute(
            """INSERT INTO series (study_uid, series_uid, state, calling_ae, first_at, last_at,
              instances, updated, pseudonym) VALUES (?, ?, ?, '', ?, ?, ?, ?, ?)""",
            (
                key.study,
                key.series,
                report.state if report else "open",
                at,
                at,
                report.instances if report else None,
                time.time(),
                _pseudonym(report),
            ),
        )


def _enter_told(db: sqlite3.Connection, state: Path, found: ledger.Contents) -> None:
    """What archives were told, the oldest first."""
    filed = {(one.report_id, one.stage, one.edition): one for one in filing.filed_told(state)}
    for entry in sorted({**filed, **found.told}.values(), key=lambda one: one.at):
        tell_in(db, entry)


def _pseudonym(entry: ReportEntry | None) -> str | None:
    """Of the study, as the report says it."""
    if entry is not None:
        with contextlib.suppress(ValidationError):
            return Report.stored(entry.report).study.pseudonym
    return None
