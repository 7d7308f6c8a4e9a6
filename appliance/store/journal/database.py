"""The journal's SQLite file: opening, schema, transactions, and what is wrong in our own words.

Rules
- WAL so that readers never wait for the writer; synchronous=FULL so that a commit survives a power
  cut; BEGIN IMMEDIATE so that a transaction that will write never fails half-way for want of a
  lock. Each process opens its own; a connection must not be carried over a fork.
- `open` makes the file where there is none, from the journal of an earlier release if there is one
  (`migrate`). One process at a time does that, and one at a time looks whether the file is whole
  (`damage`) and makes a new one where it is not (`rebuild`); all others wait meanwhile.
- Who has a file open that was set aside meanwhile gets an error at its next step, and opens the new
  one when it starts again.
- A file of a later release is used as one's own where it allows it, and no stage takes a newer
  schema by opening it (`steps`).
- What the ledger must know of a transaction is durable there before the commit (`ledger`).
- `read` never makes and never changes a file. While a stage has the journal open, SQLite lets a
  reader in beside it. With all stages gone there is no log (`-wal`): the file is read as it stands,
  and the opener's lock keeps a stage from starting meanwhile. A log that a power cut left behind
  without its index is read from a copy, because SQLite would make that index.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TypeVar

from appliance.errors import StateUnusable
from appliance.store.files import DISK, Disk
from appliance.store.journal import damage, filing, steps
from appliance.store.journal.connect import BUSY_MS, JOURNAL_NAME, connected
from appliance.store.journal.ledger import LEDGER_NAME, Ledger
from appliance.store.lock import Shared, locked, locked_if_there, locked_soon, sharing

HURRY_S = 1.0
"""So long waits who cannot wait: as long as others need to open a journal that is whole."""
_D = TypeVar("_D", bound="Database")


class Manner(Enum):
    """What who opens the journal does where nobody knows yet whether it is whole (`damage`)."""

    MEND = "mend"
    """Look, and make a new one of what is kept: for `work`, which sees all of it."""
    LOOK = "look"
    """Look, and refuse it where it is damaged."""
    HURRY = "hurry"
    """Refuse it, and do not wait for who looks: for `receive`, which goes on without."""


class Database:
    """One connection, usable from several threads of one process, one transaction at a time."""

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        end: contextlib.ExitStack,
        *,
        ledger: Ledger | None = None,
        users: Shared | None = None,
    ) -> None:
        """`end`: what is to be closed with it. users: the others that have it open for writing;
        None for who only reads, or whose file nobody else knows."""
        self._path = path
        self._db = db
        self._end = end
        self._lock = threading.RLock()
        self._users = users
        self._inode = path.stat().st_ino if users is not None else None
        self.ledger = ledger or Ledger(None)
        db.row_factory = sqlite3.Row

    @classmethod
    def open(
        cls: type[_D],
        state: Path,
        disk: Disk = DISK,
        manner: Manner = Manner.LOOK,
        busy_ms: int = BUSY_MS,
    ) -> _D:
        """The journal of a state folder, which exists; made where it is missing. busy_ms: how long
        each step of it waits for a lock of another process.

        StateUnusable (journal_damaged) where it is damaged and `manner` does not mend it,
        (journal_not_ready) where who is in a hurry would have to wait.
        """
        path, ledger = state / JOURNAL_NAME, state / LEDGER_NAME
        with contextlib.ExitStack() as end, as_state_unusable(path), _opening(path, manner):
            users = end.enter_context(sharing(path.with_name(f"{path.name}.users")))
            _make_sure(state, path, disk, manner, users)
            try:
                db = _ready(path, end, busy_ms)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as e:
                # the last one to close it left word of a file that another had damaged by then
                damage.suspect(path, e)
                if damage.suspected(path) is None:
                    raise
                _make_sure(state, path, disk, manner, users)
                db = _ready(path, end, busy_ms)
            made = cls(path, db, end.pop_all(), ledger=Ledger(ledger, disk), users=users)
            if not ledger.exists():
                with contextlib.ExitStack() as failed:
                    failed.callback(made._end.close)
                    with made.write() as inside:
                        filing.begin(state, inside, disk)
                    failed.pop_all()
            return made

    @classmethod
    def in_memory(cls: type[_D]) -> _D:
        """An empty journal that is gone when it is closed."""
        with contextlib.ExitStack() as end:
            db = end.enter_context(contextlib.closing(connected(Path("memory"), "mode=memory")))
            db.executescript(f"PRAGMA foreign_keys = ON;BEGIN;{steps.made()}COMMIT;")
            return cls(Path("memory"), db, end.pop_all())

    @classmethod
    def read(cls: type[_D], state: Path, busy_ms: int = BUSY_MS) -> _D | None:
        """The same for who only reads; None where there is no journal yet.

        StateUnusable (journal_waits) where there is one of an earlier release only.
        """
        path = state / JOURNAL_NAME
        if not path.exists():
            if (state / LEDGER_NAME).exists():
                raise damaged(path, "it is gone")
            _refuse_earlier(state)
            return None
        with contextlib.ExitStack() as end, as_state_unusable(path):
            db = end.enter_context(contextlib.closing(_for_reading(path, end, busy_ms)))
            if _allowed(db, path).schema == 0:
                return None
            return cls(path, db, end.pop_all())

    def close(self) -> None:
        """The last one to close it leaves word of how it left the file (`damage.left`).

        Who closes lets its share go before the next one may look: of two that close at the same
        time, each would else take the other for one that stays, and nobody would leave word."""
        with self._lock, contextlib.ExitStack() as held:
            users, self._users = self._users, None
            try:
                if users is not None:
                    with contextlib.suppress(StateUnusable):  # the folder is gone
                        held.enter_context(locked(_opener(self._path)))
                        self._leave_word(users)
            finally:
                self._end.close()

    def _leave_word(self, users: Shared) -> None:
        """While nobody opens or closes the journal."""
        last = users.alone()
        self._db.close()
        with contextlib.suppress(OSError):
            users.write(damage.left(self._path) if last else b"")

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that may write: all of it or nothing."""
        with self._lock, self._met():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._refuse_replaced()
                yield self._db
                self.ledger.write()
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                with contextlib.suppress(StateUnusable):
                    self.ledger.take_back()
                raise
            self.ledger.committed()

    @contextlib.contextmanager
    def look(self) -> Iterator[sqlite3.Connection]:
        """One consistent view."""
        with self._lock, self._met():
            self._db.execute("BEGIN")
            try:
                self._refuse_replaced()
                yield self._db
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")

    def whole(self) -> str | None:
        """What SQLite finds wrong with the file; None: nothing."""
        with self.look() as db:
            found = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
        return None if found == "ok" else found

    @contextlib.contextmanager
    def _met(self) -> Iterator[None]:
        """What SQLite and the disk raise, as StateUnusable; a file that is open for writing is
        suspected where it may be the cause."""
        try:
            with as_state_unusable(self._path):
                yield
        except StateUnusable as e:
            cause = e.__cause__
            if self._users is not None and isinstance(cause, (sqlite3.Error, UnicodeDecodeError)):
                damage.suspect(self._path, cause)
            raise

    def _refuse_replaced(self) -> None:
        """A stage that has the old file open would write what nobody reads."""
        if self._inode is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                return
        raise StateUnusable(
            f"{self._path} was set aside while this process had it open",
            remedy="The stage starts again by itself, on the new journal.",
            code="journal_replaced",
        )


def _ready(path: Path, end: contextlib.ExitStack, busy_ms: int) -> sqlite3.Connection:
    """A connection that may write, to a file of this release's schema; closed by `end`, and at once
    where the file cannot be used."""
    with contextlib.ExitStack() as failed:
        db = failed.enter_context(contextlib.closing(connected(path, busy_ms=busy_ms)))
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            db.execute(f"PRAGMA {pragma}")
        _grown(db, path)
        end.push(failed.pop_all())
    return db


@contextlib.contextmanager
def _opening(path: Path, manner: Manner) -> Iterator[None]:
    """One process opens a journal at a time."""
    if manner is not Manner.HURRY:
        with locked(_opener(path)):
            yield
        return
    with locked_soon(_opener(path), HURRY_S) as held:
        if not held:
            raise _not_ready(path)
        yield


def _make_sure(state: Path, path: Path, disk: Disk, manner: Manner, users: Shared) -> None:
    """That there is a file, and that it is whole."""
    pending = damage.read(state)
    unfinished = pending is not None and not pending.finished
    if not (state / LEDGER_NAME).exists() and not path.exists():
        # only once in the life of a release, and it needs what a receiver does not
        from appliance.store.journal import migrate  # noqa: PLC0415

        if not unfinished or migrate.waits(state):
            migrate.fill(state, path, disk)
            return
    doubt = damage.suspected(path)
    trusted = path.exists() and (not users.alone() or damage.is_as_left(path, users.words()))
    if trusted and doubt is None and not unfinished:
        return
    if manner is Manner.HURRY:
        raise _not_ready(path)
    why = pending.why if unfinished and pending else None
    if why is None and doubt is not None and doubt.startswith(damage.CERTAINLY):
        why = doubt.removeprefix(damage.CERTAINLY)
    why = why or damage.wrong(path)
    if why is not None:
        if manner is not Manner.MEND:
            raise damaged(path, why)
        from appliance.store.journal import rebuild  # noqa: PLC0415 - hardly ever

        rebuild.mend(state, why, disk)
    damage.clear(path)


def damaged(path: Path, why: str) -> StateUnusable:
    return StateUnusable(
        f"{path} is damaged: {why}",
        remedy="`scanside work` sets the file aside and makes a new journal of what is kept beside "
        "it, within a minute where it runs: else start it (or `scanside run`).",
        code=damage.DAMAGED,
    )


def _not_ready(path: Path) -> StateUnusable:
    return StateUnusable(
        f"{path}: nobody has looked yet whether it is whole",
        remedy="`scanside work` does so when it starts.",
        code="journal_not_ready",
    )


def too_new(path: Path, found: int, known: int) -> StateUnusable:
    """The refusal of a file that a later release wrote, whose schema `found` this one may not use;
    known: the last one that it may."""
    return StateUnusable(
        f"{path.name} is for schema {found} and later ones, this appliance knows {known}",
        remedy="Update the appliance to the version that wrote this state, "
        "or start with another state folder.",
        code="journal_too_new",
    )


@contextlib.contextmanager
def as_state_unusable(path: Path) -> Iterator[None]:
    """What SQLite and the disk raise, as StateUnusable."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as e:
        if damage.is_certain(e):
            raise damaged(path, str(e)) from e
        raise StateUnusable(f"{path}: {e}") from e


def _allowed(db: sqlite3.Connection, path: Path) -> steps.Header:
    """What the file says of itself. StateUnusable where this release may not use it."""
    found = steps.header(db)
    if found.min_reader > steps.newest():
        raise too_new(path, found.min_reader, steps.newest())
    return found


def _grown(db: sqlite3.Connection, path: Path) -> None:
    """Make an empty file a journal, and one that this release does not work on as it is one of the
    schema before its own (`steps`)."""
    found = _allowed(db, path)
    if found.schema == 0:
        db.executescript(f"BEGIN;{steps.made()}COMMIT;")
    elif found.schema < steps.least():
        if steps.min_reader(steps.least()) > found.schema:
            raise StateUnusable(
                f"{path.name} has schema {found.schema}, and this appliance works on "
                f"{steps.least()} and later ones",
                remedy="Update to a release between the two first, and let it be confirmed.",
                code="journal_too_old",
            )
        db.execute("BEGIN IMMEDIATE")
        with contextlib.ExitStack() as failed:
            failed.callback(db.execute, "ROLLBACK")
            steps.take(db, steps.least())
            db.execute("COMMIT")
            failed.pop_all()


def _refuse_earlier(state: Path) -> None:
    from appliance.store.journal import migrate  # noqa: PLC0415 - as in `Database.open`

    if migrate.waits(state):
        raise StateUnusable(
            f"{state} has the journal of an earlier release: the first stage takes it over",
            remedy="Start the stages (`systemctl start scanside.target`, or `scanside run`), "
            "then ask again.",
            code="journal_waits",
        )


def _for_reading(path: Path, end: contextlib.ExitStack, busy_ms: int) -> sqlite3.Connection:
    """A connection that leaves the folder as it is, in one of the three ways."""
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if log.exists() and index.exists():
        return connected(path, "mode=ro", busy_ms)
    end.enter_context(locked_if_there(_opener(path)))  # from here on no stage can start
    if not log.exists():
        return connected(path, "mode=ro&immutable=1", busy_ms)
    if index.exists():
        end.close()
        return connected(path, "mode=ro", busy_ms)
    import tempfile  # noqa: PLC0415 - only a reader after a crash needs it

    folder = Path(end.enter_context(tempfile.TemporaryDirectory(prefix="scanside-journal-")))
    shutil.copyfile(path, folder / path.name)
    with contextlib.suppress(FileNotFoundError):  # the last stage has just ended
        shutil.copyfile(log, folder / log.name)
    return connected(folder / path.name)


def _opener(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
