"""Whether the journal's file is whole, and what is said where it was not.

    journal-5.sqlite.users      locked shared by whoever has the journal open; holds what the last
                                of them left: {"boot", "inode", "size", "changed"}
    journal-5.sqlite.suspect    why a process that met an error wants the file looked at
    journal-damaged.json        a Damage: until a person confirms it, the device says so

Rules
- The file is looked at (`wrong`) by who opens it first in a boot, after an end that was not clean,
  and where somebody suspects it. An end is clean where the last one left the file as it is now,
  and no log. Whoever opens it beside others relies on them.
- `work` that runs beside a suspicion ends and starts again (`heed`): nobody else would look, and
  `receive` would go on without a journal.
- SQLite's integrity_check finds pages, indexes and constraints that do not fit. What it cannot see
  is asked too: the schema, the counters, what is owed against the ledger, and a log that breaks
  off before its end, which SQLite takes for a power cut, so that transactions vanish silently.
- A disk that is full or gone is no damage.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import struct
from pathlib import Path

from pydantic import ValidationError

from appliance.errors import StateUnusable
from appliance.host.boot import boot_id
from appliance.report import Record
from appliance.store import delivery
from appliance.store.files import DISK, Disk
from appliance.store.heartbeat import Heart, TroubleCode
from appliance.store.journal import ledger, steps
from appliance.store.journal.connect import connected
from appliance.store.journal.ledger import LEDGER_NAME

DAMAGE_NAME = "journal-damaged.json"
DAMAGED = "journal_damaged"
"""Code of the error, and of the trouble."""
SET_ASIDE = ".damaged-"
"""Between the journal's name and the date, in the name of a file that was set aside."""
CERTAINLY = "damaged: "
"""How a suspicion begins that needs no second look."""
_CERTAIN = ("malformed", "not a database", "Could not decode to UTF-8", "cannot be read:")
_PASSING = ("locked", "busy", "full", "disk I/O", "unable to open", "readonly", "interrupted")
_FRAME = struct.Struct(">6I")
_HEADER = 32
"""Bytes before the first frame of a log, whose own header has 24 (SQLite file format, 4.1)."""


class Damage(Record):
    """A journal that was set aside, and what the new one was made of."""

    at: float
    """Seconds since 1970, UTC."""
    why: str
    file: str | None
    """Name of the old file in the state folder, where it is kept; None: the journal was gone."""
    earlier: tuple[str, ...] = ()
    """Those of damages before this one that nobody has confirmed either."""
    finished: bool = False
    """False while the new journal is made: whoever opens it then goes on with that."""
    series: int = 0
    reports: int = 0
    owed: int = 0

    def sentence(self) -> str:
        """For a person."""
        names = [*self.earlier, *([self.file] if self.file else [])]
        kept = ", ".join(names) or "nothing, it was gone"
        made = f"{self.series} series, {self.reports} reports, {self.owed} owed messages"
        return f"the journal was damaged ({self.why}); set aside: {kept}; the new one has {made}"


def read(state: Path) -> Damage | None:
    """The damage that nobody has confirmed yet."""
    try:
        return Damage.stored((state / DAMAGE_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as e:
        return Damage(
            at=0.0, why=f"{DAMAGE_NAME} cannot be read: {e}"[:200], file=None, finished=True
        )


def write(state: Path, damage: Damage, disk: Disk) -> None:
    disk.write(state / DAMAGE_NAME, damage.model_dump_json().encode())


def confirm(state: Path, disk: Disk = DISK) -> None:
    """A person knows: the device does not say it any more. What was set aside stays."""
    disk.remove(state / DAMAGE_NAME)


def tell(state: Path, heart: Heart) -> None:
    """The stage of this heart suffers from a damage that is not confirmed."""
    if (damage := read(state)) is not None:
        heart.suffer(TroubleCode.JOURNAL_DAMAGED, damage.sentence())
    else:
        heart.recover(TroubleCode.JOURNAL_DAMAGED)


# Suspicion: what a process meets at work.


def is_certain(error: Exception) -> bool:
    """Whether SQLite says with this that the file is damaged. What it read from there may be no
    text at all, even in its own message."""
    if isinstance(error, UnicodeDecodeError):
        return True
    return isinstance(error, sqlite3.DatabaseError) and any(t in str(error) for t in _CERTAIN)


def is_passing(error: Exception) -> bool:
    """Whether it says no more than that something else is in the way, such as a full disk."""
    return any(text in str(error) for text in _PASSING)


def suspect(path: Path, error: Exception) -> None:
    """Have the file looked at by who opens it next; a certain damage is not looked for again."""
    if isinstance(error, sqlite3.ProgrammingError) or (is_passing(error) and not is_certain(error)):
        return
    mark = CERTAINLY if is_certain(error) else "perhaps: "
    with contextlib.suppress(OSError):
        _suspect(path).write_text(f"{mark}{error}"[:300])


def suspected(path: Path) -> str | None:
    """Why it is suspected."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _suspect(path).read_text()
    return None


def heed(path: Path) -> None:
    """StateUnusable where it is suspected while this stage has it open: a new start looks at it."""
    if (why := suspected(path)) is not None:
        raise StateUnusable(
            f"{path} is suspected ({why})",
            remedy="The stage starts again by itself, and looks at the journal then.",
            code="journal_suspected",
        )


def clear(path: Path) -> None:
    """Nobody suspects it any more."""
    with contextlib.suppress(OSError):
        _suspect(path).unlink(missing_ok=True)


def _suspect(path: Path) -> Path:
    return path.with_name(f"{path.name}.suspect")


# The clean end.


class Left(Record):
    """The file as the last one who had it open left it."""

    boot: str
    inode: int
    size: int
    changed: int
    """Nanoseconds of the file's clock."""


def left(path: Path) -> bytes:
    """How the file is now, for the next one who opens it; empty where its log is still there."""
    if _log(path).exists():
        return b""
    found = path.stat()
    return (
        Left(boot=boot_id(), inode=found.st_ino, size=found.st_size, changed=found.st_mtime_ns)
        .model_dump_json()
        .encode()
    )


def is_as_left(path: Path, said: bytes) -> bool:
    """Whether it still is so, in the same boot."""
    return bool(said) and said == left(path)


# Looking at the file.


def wrong(path: Path) -> str | None:
    """What is wrong with the journal at `path`, which nobody changes meanwhile; None: nothing, or
    it is of a later release that does not let this one use it, as opening it says.

    Of a later schema nobody here knows the statements that made it: it must have every column of
    this release. sqlite3.Error where it cannot be looked at.
    """
    known = path.with_name(LEDGER_NAME).exists()
    if not path.exists() or not path.stat().st_size:
        return "it is gone" if known else None
    if breaks_off(_log(path)):
        return "its log breaks off before its end"
    try:
        with contextlib.closing(connected(path)) as db:
            db.row_factory = sqlite3.Row
            said = steps.header(db)
            shape = _shape(db)
            is_ours = steps.FIRST <= said.schema <= steps.newest()
            if shape != _shape_of(said.schema if is_ours else steps.newest()):
                never_finished = said.schema == 0 and not shape
                if never_finished or steps.newest() < said.min_reader <= said.schema:
                    return None
                if said.schema <= steps.newest() or not _columns_of_ours() <= _columns(db):
                    return "its tables are not those of a journal"
            elif why := _says_wrong(said):
                return why
            db.execute("BEGIN IMMEDIATE")  # a header may forbid to write
            db.execute("ROLLBACK")
            return _pages(db) or _figures(db, ledger.read(path.with_name(LEDGER_NAME)))
    except (sqlite3.DatabaseError, UnicodeDecodeError) as e:
        may_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        if is_certain(e) or not is_passing(e) or ("readonly" in str(e) and may_write):
            return str(e)
        raise


def _says_wrong(said: steps.Header) -> str | None:
    """What a file with the tables of this release says falsely of itself: a later schema has
    more."""
    if not steps.FIRST <= said.schema <= steps.newest():
        return f"it says that its version is {said.schema}"
    if said.min_reader not in {said.schema, steps.min_reader(said.schema)}:
        return f"it says that it is for schema {said.min_reader} and later ones"
    return None


def _shape_of(schema: int) -> set[str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(steps.made(schema))
        return _shape(db)


def _columns_of_ours() -> set[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(steps.made())
        return _columns(db)


def _shape(db: sqlite3.Connection) -> set[str]:
    """The statements that made its tables, without comments and spaces."""
    rows = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {re.sub(r"\s+|--[^\n]*", "", row[0]) for row in rows}


def _columns(db: sqlite3.Connection) -> set[tuple[object, ...]]:
    """Table, name, type, whether it may be null, and place in the key of every column."""
    rows = db.execute(
        """SELECT one.name, said.name, said.type, said."notnull", said.pk
        FROM sqlite_master AS one, pragma_table_info(one.name) AS said WHERE one.type = 'table'"""
    )
    return {tuple(row) for row in rows}


def _pages(db: sqlite3.Connection) -> str | None:
    """integrity_check costs half as much again as quick_check, and looks into the indexes too."""
    first = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if first != "ok":
        return first.replace("\n", " ")[:200]
    return "a row refers to none" if db.execute("PRAGMA foreign_key_check").fetchone() else None


def _figures(db: sqlite3.Connection, known: ledger.Contents) -> str | None:
    counters = {row[0]: row[1] for row in db.execute("SELECT name, value FROM counters")}
    highest = db.execute("SELECT max(seq) FROM owed").fetchone()[0] or 0
    if counters.keys() != {"seq", "audit"} or counters["seq"] < highest:
        return "its numbers go back"
    if counters["audit"] != (db.execute("SELECT max(id) FROM audit").fetchone()[0] or 0):
        return "rows of its audit are missing"
    for row in db.execute(
        "SELECT destination, key, seq, body FROM owed WHERE state IN (?, ?)", delivery.OWED
    ):
        entry = known.owed.get((row["destination"], row["key"]))
        if entry is not None and (entry.seq, entry.body) != (row["seq"], row["body"]):
            return f"what is owed under {row['key']} is not what it was"
    return None


def breaks_off(log: Path) -> bool:
    """Whether whole transactions lie in a log (`-wal`) behind a frame that is not whole.

    A power cut leaves at most one transaction whose frames are not whole, the last one: a commit
    that others follow was synced before they were begun (SQLite file format, 4.1 to 4.3).
    """
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return False
    if len(data) < _HEADER:
        return False
    magic, _, page, _, *salt = struct.unpack(">6I", data[:24])
    words = "<" if magic == 0x377F0682 else ">"
    sums = _checksum(words, data[:24], (0, 0))
    if magic not in (0x377F0682, 0x377F0683) or sums != struct.unpack(">2I", data[24:_HEADER]):
        return len(data) > _HEADER  # it is synced before the first frame
    whole = True
    commits: list[bool] = []
    """Of the frames of this log from the first one that is not whole."""
    for at in range(_HEADER, len(data) - _FRAME.size - page + 1, _FRAME.size + page):
        frame = data[at : at + _FRAME.size + page]
        _, size, salt1, salt2, *stored = _FRAME.unpack(frame[: _FRAME.size])
        if whole:
            sums = _checksum(words, frame[:8] + frame[_FRAME.size :], sums)
            whole = [salt1, salt2] == salt and sums == tuple(stored)
        if not whole and [salt1, salt2] == salt:
            commits.append(size > 0)
    return any(commits[:-1])


def _checksum(words: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """SQLite file format, 4.2."""
    one, two = sums
    for first, second in struct.iter_unpack(f"{words}2I", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
