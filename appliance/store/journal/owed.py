"""The outbox: what is owed to each destination, in order, until it was taken.

Rules
- A key that its destination knows already is dropped silently, so a replay adds nothing.
- A body that is a function gets the next `seq` of the device, which never goes back and is never
  used twice. Other bodies draw none.
- Each destination has its own order: the oldest that waits is the first. No query for one sees what
  waits for another.
- What is ordered is composed later: its row gets the file then, keeps the order beside it, and
  lets go of the series, whose images are not needed any more.
- States change by the table of `delivery` alone. What a person decides is audited.
- What is owed stands in the ledger too, until it is settled.
"""

from __future__ import annotations

import base64
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from appliance.report import SeriesKey
from appliance.results.owed import File, Owed
from appliance.store import delivery
from appliance.store.delivery import Event, State
from appliance.store.journal.audit import Audit
from appliance.store.journal.database import Database
from appliance.store.journal.filing import ENTRY, owed_entry
from appliance.store.journal.ledger import OwedEntry, SettledEntry
from appliance.store.journal.part import Part, as_row, columns, next_value
from appliance.store.rows import OwedCounts, OwedRow, Which


class Outbox(Part):
    """`journal.owed`."""

    def __init__(self, database: Database, clock: Callable[[], float], audit: Audit) -> None:
        super().__init__(database, clock)
        self._audit = audit

    def add(self, owed: Iterable[Owed]) -> None:
        """What is owed from now on; all in one transaction."""
        with self._db.write() as db:
            self.add_in(db, owed)

    def add_in(self, db: sqlite3.Connection, owed: Iterable[Owed]) -> None:
        """The same, within the caller's transaction."""
        for one in owed:
            known = "SELECT 1 FROM owed WHERE destination = ? AND key = ?"
            if db.execute(known, (one.destination, one.key)).fetchone():
                continue
            seq, body = None, one.body
            if callable(body):
                seq = next_value(db, "seq")
                body = body(seq)
            entry = OwedEntry(
                destination=one.destination,
                key=one.key,
                seq=seq,
                study=one.series.study if one.series else None,
                series=one.series.series if one.series else None,
                content=None if isinstance(body, File) else base64.b64encode(body).decode(),
                file=str(body.path) if isinstance(body, File) else None,
                created=self._clock(),
            )
            insert_in(db, entry)
            self._db.ledger.note(entry)

    def next_seq(self) -> int:
        """A number for a message that is not kept here (status, health)."""
        with self._db.write() as db:
            return next_value(db, "seq")

    # Looking.

    def waiting(self, destination: str, limit: int) -> list[OwedRow]:
        """What is to be sent to one destination, in its order."""
        return self._rows("destination = ? AND state = ?", (destination, State.WAITING), limit)

    def ready(self, destination: str, limit: int) -> list[OwedRow]:
        """What is to be sent to one destination and has its file, in its order."""
        where = "destination = ? AND state = ? AND file IS NOT NULL"
        return self._rows(where, (destination, State.WAITING), limit)

    def uncomposed(self, destinations: Sequence[str], limit: int) -> list[OwedRow]:
        """What waits for its file at any of these destinations, the oldest first."""
        marks = ",".join("?" * len(destinations))
        # the state as a literal, so that SQLite takes the index `owed_uncomposed`
        where = f"destination IN ({marks}) AND state = 'waiting' AND file IS NULL"
        return self._rows(where, destinations, limit)

    def with_files(self, under: str) -> list[OwedRow]:
        """Everything whose file lies below a folder of the state folder, whatever became of it."""
        return self._rows("substr(file, 1, ?) = ?", (str(len(under)), under), -1)

    def listed(self, state: State, limit: int = -1) -> list[OwedRow]:
        """What is in this state, of all destinations, in the order in which it was owed."""
        return self._rows("state = ?", (state,), limit)

    def of_study(self, destination: str, study_uid: str) -> list[OwedRow]:
        """All that one destination was ever owed of the series of a study and that is still kept,
        whatever became of it, in its order."""
        return self._rows("destination = ? AND study_uid = ?", (destination, study_uid), -1)

    def delivered_at(self, destination: str, key: uuid.UUID | str) -> float | None:
        """When it was delivered; None: not yet, or unknown."""
        with self._db.look() as db:
            row = db.execute(
                "SELECT delivered_at FROM owed WHERE destination = ? AND key = ?",
                (destination, str(key)),
            ).fetchone()
        return row[0] if row else None

    def state(self, destination: str, key: str) -> State | None:
        """What became of it; None: nothing is known of it."""
        with self._db.look() as db:
            rows = _named(db, destination, [key])
        return State(rows[0]["state"]) if rows else None

    def destinations(self) -> list[str]:
        """Who is owed anything that waits or is dead."""
        with self._db.look() as db:
            rows = db.execute(
                "SELECT DISTINCT destination FROM owed WHERE state IN (?, ?)", delivery.OWED
            ).fetchall()
        return [row["destination"] for row in rows]

    def counts(self, destination: str | None = None) -> OwedCounts:
        """How much there is in each state, of one destination or (None) of all."""
        only, values = ("destination = ? AND", [destination]) if destination else ("", [])
        with self._db.look() as db:
            counts = {
                state: db.execute(
                    f"SELECT count(*) FROM owed WHERE {only} state = ?",
                    (*values, state),
                ).fetchone()[0]
                for state in State
            }
            oldest = db.execute(
                f"SELECT created FROM owed WHERE {only} state = ? ORDER BY id LIMIT 1",
                (*values, State.WAITING),
            ).fetchone()
        return OwedCounts(
            **{state.value: count for state, count in counts.items()},
            oldest_waiting=oldest[0] if oldest else None,
        )

    # What became of an order.

    def composed(self, destination: str, key: str, path: PurePosixPath) -> None:
        """The object that a row ordered lies under the state folder at `path` from now on, and its
        series need not wait for it any longer. What went wrong before counts no more. A row that
        has a file is left as it is."""
        with self._db.write() as db:
            changed = db.execute(
                f"""UPDATE owed SET file = ?, study_uid = NULL, series_uid = NULL, attempts = 0,
                last_error = NULL
                WHERE destination = ? AND key = ? AND file IS NULL RETURNING state, {ENTRY}""",
                (str(path), destination, key),
            ).fetchall()
            for row in changed:
                if State(row["state"]) in delivery.OWED:
                    self._db.ledger.note(owed_entry(row))

    def empty(self, destination: str, key: str, why: str) -> None:
        """Composing found nothing to show: what still waits is dropped. why: for a person."""
        with self._db.write() as db:
            self.settle_in(db, destination, key, Event.EMPTY, why)

    def settle_in(
        self, db: sqlite3.Connection, destination: str, key: str, event: Event, why: str
    ) -> bool:
        """What still waits is dropped by this event; whether it did wait. Within the caller's
        transaction."""
        waiting = [r for r in _named(db, destination, [key]) if r["state"] == State.WAITING]
        for row in waiting:
            db.execute(
                "UPDATE owed SET state = ?, last_error = ? WHERE id = ?",
                (_after(row, event), why, row["id"]),
            )
            self._db.ledger.note(SettledEntry(destination=destination, keys=(key,)))
        return bool(waiting)

    def give_up(self, destination: str, key: str, why: str) -> None:
        """Nobody took it in time: dropped, whether it waits or is dead. why: for a person."""
        with self._db.write() as db:
            for row in _named(db, destination, [key]):
                if State(row["state"]) not in delivery.OWED:
                    continue
                db.execute(
                    "UPDATE owed SET state = ?, last_error = ? WHERE id = ?",
                    (_after(row, Event.DROP), why, row["id"]),
                )
                self._db.ledger.note(SettledEntry(destination=destination, keys=(key,)))

    def uncomposable(self, destination: str, key: str, why: str) -> None:
        """It was tried often enough: dead, and its series need not wait for it any longer."""
        with self._db.write() as db:
            for row in _named(db, destination, [key]):
                if row["state"] != State.WAITING:
                    continue
                changed = db.execute(
                    f"""UPDATE owed SET state = ?, last_error = ?, study_uid = NULL,
                    series_uid = NULL WHERE id = ? RETURNING {ENTRY}""",
                    (_after(row, Event.NEVER), why, row["id"]),
                ).fetchall()
                self._db.ledger.note(owed_entry(changed[0]))

    # What the destination answered.

    def ack(self, destination: str, keys: Sequence[str], *, mark: str | None = None) -> None:
        """They were taken, whatever they were before; all in one transaction.

        mark: what stays to be said of it, in the place of the last error.
        """
        at = self._clock()
        with self._db.write() as db:
            for row in _named(db, destination, keys):
                db.execute(
                    """UPDATE owed SET state = ?, delivered_at = ?, last_error = ?
                    WHERE id = ?""",
                    (_after(row, Event.ACK), at, mark, row["id"]),
                )
            # at worst it is sent once more, and the broker waits for no sync
            settled = SettledEntry(destination=destination, keys=tuple(keys))
            self._db.ledger.note(settled, lasting=False)

    def later(self, destination: str, key: str, error: str, *, counts: bool = True) -> int:
        """One attempt was refused; it goes on waiting. Returns how many were refused so far.

        counts: False where that says nothing of the thing itself, such as an archive that is full.
        """
        return self._refused(destination, key, Event.LATER, error, counts=counts)

    def never(self, destination: str, key: str, error: str) -> int:
        """It can never be delivered: it is dead. Returns how many attempts were refused."""
        return self._refused(destination, key, Event.NEVER, error)

    def _refused(
        self, destination: str, key: str, event: Event, error: str, *, counts: bool = True
    ) -> int:
        """A refusal is noted only while it waits."""
        with self._db.write() as db:
            for row in _named(db, destination, [key]):
                if row["state"] == State.WAITING:
                    db.execute(
                        """UPDATE owed SET state = ?, attempts = attempts + ?, last_error = ?
                        WHERE id = ?""",
                        (_after(row, event), counts, error, row["id"]),
                    )
            rows = _named(db, destination, [key])
        return int(rows[0]["attempts"]) if rows else 0

    # What it answered to the question whether it keeps them; within the caller's transaction.

    def commit_in(self, db: sqlite3.Connection, destination: str, keys: Sequence[str]) -> None:
        """It promises to keep them, whatever they were before."""
        for row in _named(db, destination, keys):
            db.execute(
                "UPDATE owed SET state = ?, last_error = NULL WHERE id = ?",
                (_after(row, Event.COMMIT), row["id"]),
            )
        self._db.ledger.note(SettledEntry(destination=destination, keys=tuple(keys)))

    def unkept_in(self, db: sqlite3.Connection, destination: str, key: str, why: str) -> None:
        """It does not promise to keep what it took: dead. why: for a person."""
        for row in _named(db, destination, [key]):
            if row["state"] != State.DELIVERED:
                continue
            changed = db.execute(
                f"UPDATE owed SET state = ?, last_error = ? WHERE id = ? RETURNING {ENTRY}",
                (_after(row, Event.UNKEPT), why, row["id"]),
            ).fetchall()
            self._db.ledger.note(owed_entry(changed[0]))

    def denied_in(self, db: sqlite3.Connection, destination: str, key: str) -> None:
        """It says that it has not what it took: that is owed once more."""
        rows = _named(db, destination, [key])
        self._again(db, [row for row in rows if row["state"] == State.DELIVERED])

    # What a consumer or a person asks.

    def again(self, destination: str, keys: Sequence[str]) -> int:
        """They are owed once more, as they were; how many. What was dropped stays dropped."""
        allowed = delivery.sources(Event.AGAIN)
        with self._db.write() as db:
            rows = [r for r in _named(db, destination, keys) if State(r["state"]) in allowed]
            self._again(db, rows)
        return len(rows)

    def _again(self, db: sqlite3.Connection, rows: Iterable[sqlite3.Row]) -> None:
        for row in rows:
            changed = db.execute(
                f"""UPDATE owed SET state = ?, delivered_at = NULL, attempts = 0 WHERE id = ?
                RETURNING {ENTRY}""",
                (_after(row, Event.AGAIN), row["id"]),
            ).fetchall()
            self._db.ledger.note(owed_entry(changed[0]))

    def retry(self, actor: str, which: Which | None = None) -> int:
        """What is dead (None: all of it) waits again; how many. Audited.

        delivery.Forbidden where the one that is named is not dead.
        """
        with self._db.write() as db:
            if which is None:
                rows = db.execute(
                    "SELECT id, state FROM owed WHERE state = ? ORDER BY id", (State.DEAD,)
                ).fetchall()
            else:
                rows = _chosen(db, which, Event.RETRY)
            self._decide(db, rows, Event.RETRY)
            if rows:
                named = {"key": which} if isinstance(which, str) else {"seq": which}
                self._audit.add_in(db, actor, "outbox_retry", {**named, "count": len(rows)})
        return len(rows)

    def drop(self, actor: str, which: Which, destination: str | None = None) -> int:
        """A person gives it up, for one destination or (None) for each that it is owed to; how many
        there were, 0 where it is unknown. Audited.

        delivery.Forbidden where it is not owed.
        """
        with self._db.write() as db:
            rows = _chosen(db, which, Event.DROP, destination)
            self._decide(db, rows, Event.DROP)
            for row in rows:
                of = db.execute("SELECT destination, key FROM owed WHERE id = ?", (row["id"],))
                owed_to, key = of.fetchone()
                self._db.ledger.note(SettledEntry(destination=owed_to, keys=(key,)))
            if rows:
                named = {"key": which} if isinstance(which, str) else {"seq": which}
                only = {"to": destination} if destination else {}
                self._audit.add_in(db, actor, "outbox_drop", {**named, **only, "count": len(rows)})
        return len(rows)

    def drop_all(self, actor: str, destination: str) -> int:
        """A person gives up all that one destination is owed; how much that was. Audited."""
        with self._db.write() as db:
            rows = db.execute(
                "SELECT id, key, state FROM owed WHERE destination = ? AND state IN (?, ?)",
                (destination, *delivery.OWED),
            ).fetchall()
            self._decide(db, rows, Event.DROP)
            if rows:
                keys = tuple(row["key"] for row in rows)
                self._db.ledger.note(SettledEntry(destination=destination, keys=keys))
                detail = {"to": destination, "count": len(rows)}
                self._audit.add_in(db, actor, "outbox_drop", detail)
        return len(rows)

    def _decide(self, db: sqlite3.Connection, rows: Iterable[sqlite3.Row], event: Event) -> None:
        for row in rows:
            db.execute(
                "UPDATE owed SET state = ?, attempts = 0 WHERE id = ?",
                (_after(row, event), row["id"]),
            )

    # For `Journal`, which deletes.

    def is_owed_in(self, db: sqlite3.Connection, key: SeriesKey) -> bool:
        """Whether anything of the series is not settled yet."""
        return (
            db.execute(
                """SELECT 1 FROM owed WHERE study_uid = ? AND series_uid = ?
                AND state IN (?, ?) LIMIT 1""",
                (key.study, key.series, *delivery.OWED),
            ).fetchone()
            is not None
        )

    def purge_in(self, db: sqlite3.Connection, before: float) -> None:
        """Delete what is settled, of no series, and older."""
        db.execute(
            "DELETE FROM owed WHERE study_uid IS NULL AND created < ? AND state IN (?, ?, ?)",
            (before, *delivery.SETTLED),
        )

    def _rows(self, where: str, values: Sequence[str], limit: int) -> list[OwedRow]:
        with self._db.look() as db:
            rows = db.execute(
                f"SELECT {columns(OwedRow)} FROM owed WHERE {where} ORDER BY id LIMIT ?",
                (*values, limit),
            )
            return [as_row(OwedRow, row) for row in rows]


def insert_in(db: sqlite3.Connection, entry: OwedEntry) -> None:
    """A row for what is owed, which waits; within the caller's transaction."""
    db.execute(
        """INSERT INTO owed
        (destination, key, seq, study_uid, series_uid, body, file, created, state)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            entry.destination,
            entry.key,
            entry.seq,
            entry.study,
            entry.series,
            entry.body,
            entry.file,
            entry.created,
            delivery.FIRST,
        ),
    )


def _after(row: sqlite3.Row, event: Event) -> State:
    return delivery.after(State(row["state"]), event)


def _named(db: sqlite3.Connection, destination: str, keys: Sequence[str]) -> list[sqlite3.Row]:
    """Those of these keys that the destination knows, in order."""
    marks = ",".join("?" * len(keys))
    return db.execute(
        f"""SELECT id, state, attempts FROM owed
        WHERE destination = ? AND key IN ({marks}) ORDER BY id""",
        (destination, *keys),
    ).fetchall()


def _chosen(
    db: sqlite3.Connection, which: Which, event: Event, destination: str | None = None
) -> list[sqlite3.Row]:
    """What a person named, by its seq or by its key (of one destination alone, where that is named
    too), and may decide so about.

    One key may be owed to several destinations: who has it already does not forbid to decide about
    the others. Where the event is allowed nowhere, all of them, so that the table forbids it.
    """
    column = "key" if isinstance(which, str) else "seq"
    rows = db.execute(
        f"""SELECT id, state FROM owed WHERE {column} = ? AND destination = coalesce(?, destination)
        ORDER BY id""",
        (which, destination),
    ).fetchall()
    return [row for row in rows if State(row["state"]) in delivery.sources(event)] or rows
