"""The audit: decisions that matter and who made them, append-only and hash-chained.

Each row holds the SHA-256 of its content and the hash before it; the last number is counted apart.
So the chain shows changed, inserted and missing rows. Whoever can rewrite the whole file can
rewrite the chain: publish `head`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from appliance.store.journal.part import Part, columns, next_value
from appliance.store.rows import AuditRow

FIRST_HASH = "0" * 64
_COLUMNS: Final = columns(AuditRow)
"""In the order in which a row is hashed."""


class Audit(Part):
    """`journal.audit`."""

    def add(self, actor: str, action: str, **detail: object) -> str:
        """A decision that matters, and who made it: appended to the chain. Its hash, which no other
        row has."""
        with self._db.write() as db:
            return self.add_in(db, actor, action, detail)

    def add_in(
        self, db: sqlite3.Connection, actor: str, action: str, detail: dict[str, object]
    ) -> str:
        """The same, within the caller's transaction."""
        last = db.execute("SELECT hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
        row = next_value(db, "audit")
        at = self._clock()
        previous = last[0] if last else FIRST_HASH
        text = json.dumps(detail, sort_keys=True, ensure_ascii=False, default=str)
        content = (row, at, actor, action, text, previous)
        named = _hash(content)
        db.execute(
            f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", (*content, named)
        )
        return named

    def rows(self, limit: int = 100) -> list[AuditRow]:
        """The newest first."""
        with self._db.look() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM audit ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [_row(one) for one in rows]

    def of(self, actions: Sequence[str]) -> list[AuditRow]:
        """Every row of these actions, the oldest first."""
        marks = ", ".join("?" * len(actions))
        with self._db.look() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM audit WHERE action IN ({marks}) ORDER BY id",
                tuple(actions),
            ).fetchall()
        return [_row(one) for one in rows]

    def head(self) -> tuple[int, str]:
        """Number and hash of the last row: published, it holds the whole chain in place."""
        rows = self.rows(1)
        return (rows[0].id, rows[0].hash) if rows else (0, FIRST_HASH)

    def verify(self) -> int | None:
        """The id of the first row that is not as it was written, None where the chain holds."""
        previous, expected = FIRST_HASH, 1
        with self._db.look() as db:
            count = db.execute("SELECT value FROM counters WHERE name = 'audit'").fetchone()[0]
            for row in db.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY id"):
                content = tuple(row)[:-1]
                if (
                    row["id"] != expected
                    or row["previous"] != previous
                    or row["hash"] != _hash(content)
                ):
                    return expected
                previous, expected = row["hash"], expected + 1
        return None if count == expected - 1 else expected


def _row(row: sqlite3.Row) -> AuditRow:
    return AuditRow(**{**dict(row), "detail": json.loads(row["detail"])})


def _hash(content: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()
