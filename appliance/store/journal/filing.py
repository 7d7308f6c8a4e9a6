"""Reports go from the ledger into files beside their masks, feedback into a file of its own, and
the ledger is kept short.

    reports/<report id>/<stage>.entry           the report and its series: a line as in the ledger
    reports/<report id>/<stage>-<edition>.told  what archives were told of it
    feedback.entries                            all that readers ever said: such a line each

Rules
- What readers said outlives every series, so its file only grows: about half a kB an act.
- A report is filed only after it was committed: whoever finds the file knows that what was to be
  said of it is owed, or was said.
- What was told is filed only where the folder of its report is there: it goes with its series.
- Only `work` does this: the other stages do not see reports/. It does so where no series waits.
- The ledger is written anew, as one file, once at least half of it says nothing any more.
- A journal without a ledger, such as one that was just taken over, gets one with all in it.
"""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from appliance.report import SeriesKey
from appliance.results.feedback import Feedback
from appliance.store import delivery
from appliance.store.files import Disk
from appliance.store.journal import feedback_rows, ledger
from appliance.store.journal.ledger import (
    LEDGER_NAME,
    Contents,
    DrawnEntry,
    Entry,
    FeedbackEntry,
    OwedEntry,
    ReportEntry,
    ToldEntry,
    encoded,
)

FOLDER = "reports"
_SUFFIX, _TOLD = ".entry", ".told"
ENTRY = "destination, key, seq, study_uid, series_uid, body, file, created"
"""Columns of `owed` that an entry of the ledger has."""
FEEDBACK = "feedback.entries"
SMALL = 64 << 10
"""A ledger of so many bytes is not worth to be written anew."""
MOST = 50
"""So many reports are filed at once: each costs a few syncs, while the journal waits."""


def begin(state: Path, db: sqlite3.Connection, disk: Disk) -> None:
    """The ledger of a journal that has none, within a transaction of its database."""
    said = (FeedbackEntry(said=one) for one in feedback_rows.every(db))
    entries: list[Entry] = [
        *_owed(db), *report_entries(db), *_told(db), *said, DrawnEntry(seq=_drawn(db))
    ]  # fmt: skip
    disk.write(state / LEDGER_NAME, b"".join(encoded([entry]) for entry in entries))


def tidy(state: Path, db: sqlite3.Connection, disk: Disk) -> None:
    """File the oldest reports of the ledger, and shorten it; within a transaction, as `begin`.

    What it has and the journal does not know at all belongs to a transaction that never was: it
    goes at once, because it was never said. So does a later edition than the journal has.
    """
    path = state / LEDGER_NAME
    data = path.read_bytes()
    size, entries = len(data), list(ledger.decoded(data))
    found = Contents.of(entries)
    known = Contents.of(e for e in entries if not isinstance(e, ReportEntry) or _was(db, e)).reports
    left = [entry for entry in known.values() if not _is_filed(state, entry)]
    for entry in left[:MOST]:
        disk.make_folder(_place(state, entry).parent)
        disk.write(_place(state, entry), encoded([entry]))
    told = [entry for entry in found.told.values() if not _is_told(state, db, entry)]
    for entry_told in told[:MOST]:
        disk.write(_place(state, entry_told), encoded([entry_told]))
    if found.feedback:
        _file_feedback(state, [one for one in found.feedback.values() if _was_said(db, one)], disk)
    query = "SELECT state FROM owed WHERE destination = ? AND key = ?"
    states = {ids: db.execute(query, ids).fetchone() for ids in found.owed}
    owed = [e for ids, e in found.owed.items() if (row := states[ids]) and row[0] in delivery.OWED]
    live: list[Entry] = [*owed, *left[MOST:], *told[MOST:], DrawnEntry(seq=_drawn(db))]
    fresh = b"".join(encoded([entry]) for entry in live) + ledger.foreign(data)
    never_was = known != found.reports or None in states.values()
    if never_was or found.feedback or (size > SMALL and 2 * len(fresh) <= size):
        disk.write(path, fresh)


def filed(state: Path) -> Iterator[ReportEntry]:
    """Every report that was filed; what cannot be read is left out."""
    return (entry for entry in _read(state, _SUFFIX) if isinstance(entry, ReportEntry))


def filed_told(state: Path) -> Iterator[ToldEntry]:
    """All that was told and filed; what cannot be read is left out."""
    return (entry for entry in _read(state, _TOLD) if isinstance(entry, ToldEntry))


def _read(state: Path, suffix: str) -> Iterator[Entry]:
    for path in sorted((state / FOLDER).glob(f"*/*{suffix}")):
        with contextlib.suppress(OSError):
            yield from ledger.decoded(path.read_bytes())


def feedback_filed(state: Path) -> Iterator[Feedback]:
    """All of what readers said that was filed, in order; a line that is damaged is left out."""
    with contextlib.suppress(FileNotFoundError):
        for entry in ledger.decoded((state / FEEDBACK).read_bytes()):
            if isinstance(entry, FeedbackEntry):
                yield entry.said


def _file_feedback(state: Path, acts: list[Feedback], disk: Disk) -> None:
    """Append what is not filed yet, durably: the ledger lets go of it then."""
    known = {one.uid for one in feedback_filed(state)}
    fresh = [FeedbackEntry(said=one) for one in acts if one.uid not in known]
    lines = b"".join(encoded([one]) for one in fresh)
    if not (state / FEEDBACK).exists():
        disk.write(state / FEEDBACK, lines)
    elif lines:
        disk.append(state / FEEDBACK, lines)


def _was_said(db: sqlite3.Connection, one: Feedback) -> bool:
    """Whether the journal has the row: else it belongs to a transaction that never was."""
    query = "SELECT 1 FROM feedback WHERE uid = ?"
    return db.execute(query, (str(one.uid),)).fetchone() is not None


def _was(db: sqlite3.Connection, entry: ReportEntry) -> bool:
    """Whether the journal has the report, in this edition or a later one."""
    row = db.execute(
        """SELECT coalesce(json_extract(json, '$.edition'), 1) FROM reports
        WHERE report_id = ? AND stage = ?""",
        (entry.report_id, entry.stage),
    ).fetchone()
    return row is not None and entry.edition <= row[0]


def _is_told(state: Path, db: sqlite3.Connection, entry: ToldEntry) -> bool:
    """Whether nothing is left to file: it is filed, its report is gone, or its transaction never
    was."""
    if not _place(state, entry).parent.is_dir():
        return True
    query = "SELECT 1 FROM told WHERE (report_id, stage, edition) = (?, ?, ?)"
    ids = entry.report_id, entry.stage, entry.edition
    return db.execute(query, ids).fetchone() is None or _is_filed(state, entry)


def _is_filed(state: Path, entry: ReportEntry | ToldEntry) -> bool:
    """Whether its file says just this: a later edition of a report takes the place of its file."""
    with contextlib.suppress(OSError):
        return _place(state, entry).read_bytes() == encoded([entry])
    return False


def _place(state: Path, entry: ReportEntry | ToldEntry) -> Path:
    folder = state / FOLDER / entry.report_id
    if isinstance(entry, ReportEntry):
        return folder / f"{entry.stage}{_SUFFIX}"
    return folder / f"{entry.stage.replace(' ', '_')}-{entry.edition}{_TOLD}"


def _told(db: sqlite3.Connection) -> Iterator[ToldEntry]:
    for row in db.execute(
        "SELECT report_id, stage, edition, told, at FROM told ORDER BY rowid"
    ).fetchall():
        yield ToldEntry(**dict(row))


def _owed(db: sqlite3.Connection) -> Iterator[OwedEntry]:
    """Everything that the journal owes, in its order."""
    for row in db.execute(
        f"SELECT {ENTRY} FROM owed WHERE state IN (?, ?) ORDER BY id", delivery.OWED
    ).fetchall():  # fmt: skip
        yield owed_entry(row)


def owed_entry(row: sqlite3.Row) -> OwedEntry:
    """A row of `owed` (ENTRY) as an entry."""
    body = row["body"]
    return OwedEntry(
        destination=row["destination"],
        key=row["key"],
        seq=row["seq"],
        study=row["study_uid"],
        series=row["series_uid"],
        content=None if body is None else base64.b64encode(body).decode(),
        file=row["file"],
        created=row["created"],
    )


def report_entries(db: sqlite3.Connection, of: SeriesKey | None = None) -> Iterator[ReportEntry]:
    """Every report of the journal or of one series, the oldest first, with the state of its series
    as it is now."""
    for row in db.execute(
        """SELECT study_uid, series_uid, report_id, stage, created, json, state, instances
        FROM reports LEFT JOIN series
        USING (study_uid, series_uid)
        WHERE coalesce(:study = study_uid AND :series = series_uid, TRUE)
        ORDER BY created, reports.rowid""",
        {"study": of.study if of else None, "series": of.series if of else None},
    ).fetchall():
        yield ReportEntry(
            study=row["study_uid"],
            series=row["series_uid"],
            report_id=row["report_id"],
            stage=row["stage"],
            state=row["state"] or "open",
            instances=row["instances"],
            created=row["created"],
            report=row["json"],
        )


def _drawn(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT value FROM counters WHERE name = 'seq'").fetchone()[0])
