"""Facts that a person may ask for, and the hash-chained audit. Part of the journal."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from appliance.store.part import Part, next_value
from appliance.store.rows import AuditRow, Event

FIRST_HASH = "0" * 64


class Audit(Part):
    """Events and audit rows."""

    # Facts and the audit chain.

    def event(self, kind: str, subject: str, **detail: object) -> None:
        """A fact such as a refusal. No PHI; `detail` must be JSON."""
        with self._db.write() as db:
            db.execute(
                "INSERT INTO events (at, kind, subject, detail) VALUES (?, ?, ?, ?)",
                (self._clock(), kind, subject, _json(detail)),
            )

    def events(self, kind: str | None = None, limit: int = 100) -> list[Event]:
        """The newest first."""
        with self._db.read() as db:
            rows = db.execute(
                """SELECT * FROM events WHERE ?1 IS NULL OR kind = ?1
                ORDER BY id DESC LIMIT ?2""",
                (kind, limit),
            )
            return [
                Event(r["id"], r["at"], r["kind"], r["subject"], json.loads(r["detail"]))
                for r in rows
            ]

    def audit(self, actor: str, action: str, **detail: object) -> None:
        """A decision that matters, and who made it: appended to the chain."""
        with self._db.write() as db:
            self._audit(db, actor, action, detail)

    def _audit(
        self, db: sqlite3.Connection, actor: str, action: str, detail: dict[str, object]
    ) -> None:
        last = db.execute("SELECT hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
        row = next_value(db, "audit")
        at = self._clock()
        previous = last[0] if last else FIRST_HASH
        content = (row, at, actor, action, _json(detail), previous)
        db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", (*content, _hash(content)))

    def audit_rows(self, limit: int = 100) -> list[AuditRow]:
        """The newest first."""
        with self._db.read() as db:
            rows = db.execute("SELECT * FROM audit ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
        return [AuditRow(**{**dict(r), "detail": json.loads(r["detail"])}) for r in rows]

    def audit_head(self) -> tuple[int, str]:
        """Number and hash of the last row: published, it holds the whole chain in place."""
        rows = self.audit_rows(1)
        return (rows[0].id, rows[0].hash) if rows else (0, FIRST_HASH)

    def verify_audit(self) -> int | None:
        """The id of the first row that is not as it was written, None where the chain holds."""
        previous, expected = FIRST_HASH, 1
        with self._db.read() as db:
            count = db.execute("SELECT value FROM counters WHERE name = 'audit'").fetchone()[0]
            for row in db.execute("SELECT * FROM audit ORDER BY id"):
                content = tuple(row)[:-1]
                if (
                    row["id"] != expected
                    or row["previous"] != previous
                    or row["hash"] != _hash(content)
                ):
                    return expected
                previous, expected = row["hash"], expected + 1
        return None if count == expected - 1 else expected


def _json(detail: dict[str, object]) -> str:
    return json.dumps(detail, sort_keys=True, ensure_ascii=False, default=str)


def _hash(content: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()
