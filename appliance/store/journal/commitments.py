"""What archives were asked to promise (storage commitment, PS3.4 J), and what became of it.

Rules
- A request is here before it is sent, and an answer before it is acknowledged: a power cut at worst
  lets the same be asked twice.
- A Transaction UID is random and stands for one request of one archive. An answer counts where that
  UID is open, for that very archive, and with exactly the references of the request
  (`store.commitment`); it counts once. Anything else changes nothing.
- Of our own objects: what an archive took is asked about until it is promised; then it is
  `committed`. What is not promised within GIVE_UP_S of the first time is dead.
- Once an archive denies that it has an object, no answer to an earlier request about it counts any
  more: it may come late, and be of when it still had it.
- For a sender (relay): its request is here before it is acknowledged, is asked of the archive under
  a UID of ours, and answered under its own. Nothing is promised that the archive has not: without
  an answer within GIVE_UP_S all of it has failed. At most RELAYED_MOST wait at a time, and all
  that is kept is no more than RELAYED_BYTES.
- A damaged journal forgets what it asked, and what an archive took without a promise: that is asked
  about no more. A sender asks again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Final

from pydantic import TypeAdapter

from appliance.store import commitment
from appliance.store.commitment import (
    ASKED_AGAIN_S,
    ASKED_AT_LEAST,
    GIVE_UP_S,
    PROCESSING_FAILURE,
    Answer,
    Failed,
    Reference,
    Request,
    Taken,
    Then,
)
from appliance.store.delivery import State
from appliance.store.journal.database import Database
from appliance.store.journal.owed import Outbox
from appliance.store.journal.part import Part, as_row, columns
from appliance.store.rows import OwedRow, Relayed

KEPT_S: Final = 2 * GIVE_UP_S
"""So long a late or a repeated answer is known for what it is."""
RELAYED_MOST: Final = 1000
RELAYED_BYTES: Final = 64 << 20
UNANSWERED: Final = "the archive has not promised to keep it within 24 hours"

_REFERENCES: TypeAdapter[tuple[Reference, ...]] = TypeAdapter(tuple[Reference, ...])
_FAILED: TypeAdapter[tuple[Failed, ...]] = TypeAdapter(tuple[Failed, ...])


class Asked(Enum):
    """What became of the request of a sender."""

    TAKEN = "taken"
    KNOWN = "known"
    """It is here already, with the same references."""
    IN_USE = "in_use"
    """Its Transaction UID stands for other references."""
    TOO_MANY = "too_many"


class Commitments(Part):
    """`journal.commitments`."""

    def __init__(self, database: Database, clock: Callable[[], float], owed: Outbox) -> None:
        super().__init__(database, clock)
        self._owed = owed

    # Of our own objects.

    def due(self, destination: str, limit: int) -> list[OwedRow]:
        """What an archive took and is to be asked about now, in its order."""
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT {columns(OwedRow, "owed")}
                FROM owed LEFT JOIN uncommitted USING (destination, key)
                WHERE destination = ? AND state = ? AND file IS NOT NULL
                  AND (uncommitted.key IS NULL OR due <= ?)
                ORDER BY id LIMIT ?""",
                (destination, State.DELIVERED, self._clock(), limit),
            )
            return [as_row(OwedRow, row) for row in rows]

    def ask(self, destination: str, references: Mapping[str, Reference]) -> Request:
        """A request about these objects, under a new UID; to be sent now. references: by the key
        of the row."""
        now = self._clock()
        with self._db.write() as db:
            for key in references:
                db.execute(
                    """INSERT INTO uncommitted (destination, key, since, times, due)
                    VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE
                    SET times = times + 1, due = excluded.due""",
                    (destination, key, now, now + ASKED_AGAIN_S),
                )
            return self._opened(db, destination, list(references.values()), list(references), None)

    def leave(self, destination: str, key: str) -> None:
        """Nothing is asked about this object any more: its file is gone."""
        with self._db.write() as db:
            db.execute(
                "REPLACE INTO uncommitted (destination, key, since, times) VALUES (?, ?, ?, 0)",
                (destination, key, self._clock()),
            )

    def not_taken(self, request: Request, why: str, *, pause_s: float) -> None:
        """The archive did not take the request (PS3.4 J.3.2.1.2): no answer to it counts, and what
        it named may be asked about after the pause. why: for a person."""
        due = self._clock() + pause_s
        with self._db.write() as db:
            rows = db.execute(
                """DELETE FROM commitments WHERE transaction_uid = ? AND answered IS NULL
                RETURNING destination, keys, relayed""",
                (request.transaction_uid,),
            ).fetchall()
            for one in rows:
                _put_off(db, one["destination"], json.loads(one["keys"]), due, why)
                db.execute("UPDATE relayed SET due = ? WHERE id = ?", (due, one["relayed"]))

    def give_up(self, destination: str) -> int:
        """What was not promised in time is dead; how many. What is being sent again begins anew."""
        late = self._clock() - GIVE_UP_S
        with self._db.write() as db:
            rows = db.execute(
                """SELECT key, said FROM uncommitted
                WHERE destination = ? AND since <= ? AND due IS NOT NULL AND times >= ?""",
                (destination, late, ASKED_AT_LEAST),
            ).fetchall()
            for row in rows:
                why = UNANSWERED + (f"; {row['said']}" if row["said"] else "")
                self._owed.unkept_in(db, destination, row["key"], why)
                _settled(db, destination, [row["key"]])
        return len(rows)

    # Of a sender.

    def relay(self, request: Request, *, calling_ae: str, host: str, answer_to: str) -> Asked:
        """A sender asks us; durable when this returns."""
        refs = _REFERENCES.dump_json(request.references).decode()
        ids = calling_ae, host, request.transaction_uid
        now = self._clock()
        with self._db.write() as db:
            known = db.execute(
                "SELECT refs FROM relayed WHERE (calling_ae, host, transaction_uid) = (?, ?, ?)",
                ids,
            ).fetchone()
            if known is not None:
                return Asked.KNOWN if known["refs"] == refs else Asked.IN_USE
            (count, size) = db.execute(
                "SELECT count(*) FILTER (WHERE told IS NULL), total(length(refs)) FROM relayed"
            ).fetchone()
            if count >= RELAYED_MOST or size + len(refs) > RELAYED_BYTES:
                return Asked.TOO_MANY
            db.execute(
                """INSERT INTO relayed
                (calling_ae, host, transaction_uid, answer_to, refs, came, due)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                (*ids, answer_to, refs, now, now),
            )
        return Asked.TAKEN

    def to_relay(self, limit: int) -> list[Relayed]:
        """What an archive is to be asked now for senders, the oldest first."""
        return self._relayed("failed IS NULL AND due <= ?", limit)

    def ask_for(self, one: Relayed, destination: str) -> Request:
        """The same of an archive, under a UID of ours; to be sent now."""
        with self._db.write() as db:
            db.execute(
                "UPDATE relayed SET due = ? WHERE id = ?", (self._clock() + ASKED_AGAIN_S, one.id)
            )
            return self._opened(db, destination, one.references, [], one.id)

    def fail_late(self) -> int:
        """What the archive has not answered in time has failed for the sender; how many."""
        now = self._clock()
        with self._db.write() as db:
            rows = db.execute(
                "SELECT id, refs FROM relayed WHERE failed IS NULL AND came <= ?",
                (now - GIVE_UP_S,),
            ).fetchall()
            for row in rows:
                failed = [
                    Failed(reference=one, reason=PROCESSING_FAILURE)
                    for one in _REFERENCES.validate_json(row["refs"], extra="ignore")
                ]
                _answer_sender(db, row["id"], failed, now)
        return len(rows)

    def to_tell(self, limit: int) -> list[Relayed]:
        """Answers that senders are owed now, the oldest first."""
        return self._relayed("failed IS NOT NULL AND told IS NULL AND due <= ?", limit)

    def told(self, one: Relayed) -> None:
        """The sender took its answer, or is given up."""
        with self._db.write() as db:
            db.execute("UPDATE relayed SET told = ? WHERE id = ?", (self._clock(), one.id))

    def not_told(self, one: Relayed, *, pause_s: float) -> None:
        """The sender did not take its answer: again after the pause."""
        with self._db.write() as db:
            db.execute("UPDATE relayed SET due = ? WHERE id = ?", (self._clock() + pause_s, one.id))

    # Answers of archives.

    def take(self, answer: Answer, destinations: Collection[str]) -> Taken:
        """What an archive answered; destinations: all that this peer is, by their names."""
        with self._db.write() as db:
            row = db.execute(
                """SELECT commitments.destination, answered, relayed, keys,
                  commitments.rowid AS number,
                  coalesce(relayed.refs, commitments.refs) AS asked_about
                FROM commitments LEFT JOIN relayed ON relayed.id = relayed
                WHERE commitments.transaction_uid = ?""",
                (answer.transaction_uid,),
            ).fetchone()
            if row is None or row["destination"] not in destinations:
                return Taken.UNKNOWN
            asked = _REFERENCES.validate_json(row["asked_about"], extra="ignore")
            if not commitment.answers_all(answer, asked):
                return Taken.OTHER_REFERENCES
            if row["answered"] is not None:
                return Taken.REPEATED
            now = self._clock()
            db.execute(
                "UPDATE commitments SET answered = ? WHERE transaction_uid = ?",
                (now, answer.transaction_uid),
            )
            if row["relayed"] is not None:
                _answer_sender(db, row["relayed"], answer.failed, now)
            else:
                keys = dict(zip(asked, json.loads(row["keys"]), strict=True))
                self._answered(db, row["destination"], keys, answer, now)
                denied = [keys[one.reference] for one in answer.failed if _is_denied(one)]
                _outdated(db, row["destination"], row["number"], denied, now)
        return Taken.COUNTS

    def purge_in(self, db: sqlite3.Connection) -> None:
        """Delete what is older than KEPT_S, and what is about no row of `owed` any more; within the
        caller's transaction."""
        before = self._clock() - KEPT_S
        db.execute("DELETE FROM commitments WHERE asked < ?", (before,))
        db.execute("DELETE FROM relayed WHERE told IS NOT NULL AND came < ?", (before,))
        db.execute(
            """DELETE FROM uncommitted WHERE NOT EXISTS
            (SELECT 1 FROM owed WHERE (owed.destination, owed.key) =
              (uncommitted.destination, uncommitted.key))"""
        )

    def _opened(
        self,
        db: sqlite3.Connection,
        destination: str,
        references: Sequence[Reference],
        keys: Sequence[str],
        relayed: int | None,
    ) -> Request:
        request = Request(transaction_uid=commitment.new_uid(), references=tuple(references))
        db.execute(
            """INSERT INTO commitments (transaction_uid, destination, relayed, refs, keys, asked)
            VALUES (?, ?, ?, ?, ?, ?)""",
            (
                request.transaction_uid,
                destination,
                relayed,
                None if relayed else _REFERENCES.dump_json(request.references).decode(),
                json.dumps(keys),
                self._clock(),
            ),
        )
        return request

    def _answered(
        self,
        db: sqlite3.Connection,
        destination: str,
        keys: Mapping[Reference, str],
        answer: Answer,
        now: float,
    ) -> None:
        """An answer about our own objects."""
        kept = [keys[one] for one in answer.kept]
        if kept:
            self._owed.commit_in(db, destination, kept)
            _settled(db, destination, kept)
        for one in answer.failed:
            key, said = keys[one.reference], commitment.sentence(one.reason)
            what = commitment.then(one.reason)
            if what is Then.BURY:
                self._owed.unkept_in(db, destination, key, said)
                _settled(db, destination, [key])
            elif what is Then.SEND:
                self._owed.denied_in(db, destination, key)
                _put_off(db, destination, [key], _soon(db, destination, key, now), said)
            else:
                _put_off(db, destination, [key], now + ASKED_AGAIN_S, said)

    def _relayed(self, where: str, limit: int) -> list[Relayed]:
        with self._db.look() as db:
            rows = db.execute(
                f"""SELECT id, transaction_uid, calling_ae, answer_to, refs, came, failed
                FROM relayed WHERE {where} ORDER BY id LIMIT ?""",
                (self._clock(), limit),
            ).fetchall()
        return [
            Relayed(
                id=row["id"],
                transaction_uid=row["transaction_uid"],
                calling_ae=row["calling_ae"],
                answer_to=row["answer_to"],
                references=_REFERENCES.validate_json(row["refs"], extra="ignore"),
                came=row["came"],
                failed=None
                if row["failed"] is None
                else _FAILED.validate_json(row["failed"], extra="ignore"),
            )
            for row in rows
        ]


def _answer_sender(
    db: sqlite3.Connection, relayed: int, failed: Sequence[Failed], now: float
) -> None:  # fmt: skip
    """What the sender is told, from now on; the first answer stands."""
    db.execute(
        "UPDATE relayed SET failed = ?, due = ? WHERE id = ? AND failed IS NULL",
        (_FAILED.dump_json(tuple(failed)).decode(), now, relayed),
    )


def _is_denied(one: Failed) -> bool:
    return commitment.then(one.reason) is Then.SEND


def _outdated(
    db: sqlite3.Connection, destination: str, number: int, denied: Sequence[str], now: float
) -> None:  # fmt: skip
    """No answer to an earlier request about what an archive denies to have counts any more. What
    else those named is asked about again in its time."""
    for key in denied:
        db.execute(
            """UPDATE commitments SET answered = ?
            WHERE destination = ? AND rowid < ? AND relayed IS NULL AND answered IS NULL
              AND EXISTS (SELECT 1 FROM json_each(commitments.keys) WHERE value = ?)""",
            (now, destination, number, key),
        )


def _put_off(
    db: sqlite3.Connection, destination: str, keys: Sequence[str], due: float, said: str
) -> None:  # fmt: skip
    """These may be asked about again then. said: by the archive."""
    for key in keys:
        db.execute(
            "UPDATE uncommitted SET due = ?, said = ? WHERE (destination, key) = (?, ?)",
            (due, said, destination, key),
        )


def _soon(db: sqlite3.Connection, destination: str, key: str, now: float) -> float:
    """When what is sent again is asked about: at once, but for an archive that denies it again."""
    row = db.execute(
        "SELECT times FROM uncommitted WHERE (destination, key) = (?, ?)", (destination, key)
    ).fetchone()
    return now + (0.0 if row is not None and row["times"] == 1 else ASKED_AGAIN_S)


def _settled(db: sqlite3.Connection, destination: str, keys: Sequence[str]) -> None:
    """Nothing is asked about these any more."""
    for key in keys:
        db.execute("DELETE FROM uncommitted WHERE (destination, key) = (?, ?)", (destination, key))
