"""The journal of a schema before 5 becomes this release's: later ones grow in their file (`steps`).

    journal-4.sqlite    schema 4: it is taken over where it is there
    journal-3.sqlite    schema 3, else
    journal.sqlite      schema 1 or 2, else

Rules
- The old file and its log (`-wal`) are only read: the release that wrote them starts on them as if
  nothing had been. It is their copy that SQLite opens, because SQLite would change them.
- A process of the old release that still has the old file open is waited for, up to PATIENCE_S:
  what it writes later would be missing here, and what it publishes would be the old file's alone.
- The new file is filled under another name, synced, and only then gets its own: a power cut at any
  point leaves the old journal alone, or the new one whole. What a try left behind is thrown away.
- Everything is carried over: associations, series, arrivals, reports, messages with their states,
  events, and the audit as it is, so that its chain holds; of schema 4 also what was told and what
  archives were asked.
- A journal that is damaged is not taken over: the release that wrote it mends its own (`rebuild`).
- Messages of schema 1 and 2 become what is owed to the destination `mqtt`, under their numbers and
  event_ids. Tables of schema 3 and 4 have the columns of schema 5.
- The next `seq` lies SEQ_AHEAD above the old one: should the old release run again for a while, no
  number of its own is used a second time.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import time
from pathlib import Path
from types import MappingProxyType
from typing import Final

from appliance.errors import StateUnusable
from appliance.results import mqtt
from appliance.store.files import Disk
from appliance.store.journal import damage, steps
from appliance.store.journal.connect import connected
from appliance.store.journal.database import too_new
from appliance.store.lock import is_byte_held

log = logging.getLogger(__name__)

NAME_4, NAME_3, OLD_NAME = "journal-4.sqlite", "journal-3.sqlite", "journal.sqlite"
LAST_VERSIONS: Final = MappingProxyType({NAME_4: 4, NAME_3: 3, OLD_NAME: 2})
"""The last schema that lies in each file; the newest file first."""
SEQ_AHEAD = 1_000_000
PATIENCE_S = 60.0
"""Longer than a receiver drains, shorter than systemd waits for the start of a stage."""
_LOOK_S = 0.1
_OPEN_BYTE = 128
"""Of the index (`-shm`): whoever has the file open in WAL holds it (SQLite's UNIX_SHM_DMS)."""

_TABLES: Final = MappingProxyType(
    {
        3: ("associations", "series", "arrivals", "reports", "owed", "events", "audit"),
        4: ("told", "relayed", "commitments", "uncommitted"),
    }
)
"""Schema -> the tables that came with it, or have their columns of today since it."""
_FILL_2 = """
INSERT INTO associations (id, calling_ae, called_ae, host, pid, pid_started, boot, opened, ended,
    outcome)
  SELECT id, calling_ae, called_ae, host, pid, pid_started, '', opened, ended, outcome
  FROM old.associations ORDER BY rowid;
INSERT INTO series (study_uid, series_uid, state, calling_ae, first_at, last_at, instances,
    attempts, updated, priority, pseudonym)
  SELECT study_uid, series_uid, state, calling_ae, first_at, last_at, instances, attempts, updated,
    {priority}, (SELECT substr(topic, 7, 32) FROM old.messages WHERE
      messages.series_uid = series.series_uid AND topic GLOB 'study/*/event' LIMIT 1)
  FROM old.series ORDER BY rowid;
INSERT INTO arrivals (association, study_uid, series_uid, first_at, last_at, instances)
  SELECT association, study_uid, series_uid, first_at, last_at, instances
  FROM old.arrivals ORDER BY rowid;
INSERT INTO reports (report_id, study_uid, series_uid, bundle_digest, revision, supersedes, status,
    stage, input_digest, json, created)
  SELECT report_id, study_uid, series_uid, bundle_digest, revision, supersedes, status, stage,
    input_digest, json, created
  FROM old.reports ORDER BY rowid;
INSERT INTO owed (id, destination, key, seq, study_uid, series_uid, body, created, state,
    delivered_at, attempts, last_error)
  SELECT seq, '{destination}', event_id, seq, series.study_uid, series.series_uid,
    envelope(topic, qos, retain, payload), created, messages.state, delivered_at, messages.attempts,
    last_error
  FROM old.messages LEFT JOIN old.series ON series.series_uid = messages.series_uid ORDER BY seq;
INSERT INTO events (id, at, kind, subject, detail)
  SELECT id, at, kind, subject, detail FROM old.events ORDER BY id;
INSERT INTO audit (id, at, actor, action, detail, previous, hash)
  SELECT id, at, actor, action, detail, previous, hash FROM old.audit ORDER BY id;
"""
_COUNT = """
UPDATE counters SET value =
  (SELECT value FROM old.counters AS before WHERE before.name = counters.name);
UPDATE counters SET value = value + {ahead} WHERE name = 'seq';
"""


def waits(state: Path) -> bool:
    """Whether an earlier release left a journal here; one that was never written is none."""
    return _newest(state) is not None


def _newest(state: Path) -> Path | None:
    """The journal that the last of the earlier releases left."""
    found = (state / name for name in LAST_VERSIONS)
    return next((old for old in found if old.exists() and old.stat().st_size > 0), None)


def fill(state: Path, path: Path, disk: Disk) -> None:
    """Make `path` of the old journal, if there is one. The caller holds the opener's lock.

    StateUnusable names the old journal where it is damaged, and where the disk is full.
    """
    old = _newest(state)
    if old is None:
        return
    pending = damage.read(state)
    if pending is not None and not pending.finished:
        raise _is_damaged(old, pending.why)
    _wait_until_closed(old)
    folder = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    disk.make_folder(folder)
    try:
        fresh = folder / path.name
        copy = _copied(old, folder)
        if _filled(copy, fresh):
            for name in folder.glob(f"{copy.name}*"):
                name.unlink()
            disk.sync_file(fresh)
            disk.move(fresh, path)
    except StateUnusable:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (OSError, sqlite3.Error) as e:
        shutil.rmtree(folder, ignore_errors=True)
        if damage.is_certain(e):
            raise _is_damaged(old, str(e)) from e
        raise StateUnusable(
            f"{old} cannot be taken over: {e}",
            remedy="Free twice its size on that disk, or mend it.",
        ) from e
    shutil.rmtree(folder)


def _copied(old: Path, folder: Path) -> Path:
    """The old file and its log, in `folder`."""
    sources = [old, old.with_name(f"{old.name}-wal")]
    before = [_facts(source) for source in sources]
    for source in sources:
        with contextlib.suppress(FileNotFoundError):  # all is in the file itself
            shutil.copyfile(source, folder / source.name)
    if [_facts(source) for source in sources] != before:
        raise _in_use(old)
    return folder / old.name


def _wait_until_closed(old: Path) -> None:
    """StateUnusable (journal_in_use) where a process keeps the old file open for too long."""
    end = time.monotonic() + PATIENCE_S
    if _is_open(old):
        log.warning("%s is open in the previous release, whose end is waited for", old)
    while _is_open(old):
        if time.monotonic() >= end:
            raise _in_use(old)
        time.sleep(_LOOK_S)


def _is_open(old: Path) -> bool:
    """Whether another process has the file open."""
    return is_byte_held(old.with_name(f"{old.name}-shm"), _OPEN_BYTE)


def _in_use(old: Path) -> StateUnusable:
    return StateUnusable(
        f"{old} is in use: the previous release still runs",
        remedy="Stop all stages of the previous release, then start this one again.",
        code="journal_in_use",
    )


def _is_damaged(old: Path, why: str) -> StateUnusable:
    return StateUnusable(
        f"{old.name} cannot be taken over, for it is damaged: {why}",
        remedy="Start the release before once: its `scanside work` makes a new one, if it is not "
        "too old for that. Else restore the file from a backup, or move it away: then what lies in "
        "the spool is analysed again.",
        code=damage.DAMAGED,
    )


def _facts(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _filled(copy: Path, fresh: Path) -> bool:
    """Fill the new file; False where the old one is empty."""
    if damage.breaks_off(copy.with_name(f"{copy.name}-wal")):
        raise _is_damaged(copy, "its log breaks off before its end")
    with contextlib.closing(connected(copy)) as db:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        wrong = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if version > (known := LAST_VERSIONS[copy.name]):
        raise too_new(copy, version, known)
    if wrong != "ok":
        raise _is_damaged(copy, wrong)
    if version == 0:
        return False
    with contextlib.closing(connected(fresh)) as db:
        # a power cut throws the whole file away, and the caller syncs it: no log is needed
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.create_function("envelope", 4, _envelope, deterministic=True)
        db.execute("ATTACH ? AS old", (str(copy),))
        rows = _as_they_are(db, version)
        if version < 3:
            priority = "priority" if version > 1 else "'routine'"
            rows = _FILL_2.format(priority=priority, destination=mqtt.MQTT)
        statements = rows + _COUNT.format(ahead=SEQ_AHEAD)
        db.executescript(f"BEGIN;{steps.made()}{statements}COMMIT;")
    return True


def _as_they_are(db: sqlite3.Connection, version: int) -> str:
    """The statements that take over every table whose columns today's has too."""
    statements = []
    for table in [table for since, some in _TABLES.items() if since <= version for table in some]:
        named = db.execute("SELECT name FROM pragma_table_info(?, 'old')", (table,)).fetchall()
        names = ", ".join(name for (name,) in named)
        statements.append(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM old.{table} ORDER BY rowid;"
        )
    return "".join(statements)


def _envelope(topic: str, qos: int, retain: int, payload: str) -> bytes:
    """A message of the old journal as MQTT keeps it now; unread, so that none is refused."""
    envelope = mqtt.Envelope.model_construct(
        topic=topic, qos=1 if qos else 0, retain=bool(retain), payload=payload
    )
    return envelope.model_dump_json().encode()
