"""The event log: facts that a person may ask for, written and read as the records of `events`."""

from __future__ import annotations

import json

from pydantic import ValidationError

from appliance.store.events import E, Event, Happened
from appliance.store.journal.part import Part

NEWEST = 10
"""Rows that tell what time it was: more than a start writes, and few, so that those which a wrong
clock wrote do not speak for long."""


RATION, RATION_S = 60, 3600.0


class EventLog(Part):
    """`journal.events`."""

    def latest_at(self) -> float | None:
        """The latest time that one of the NEWEST rows has; None where there is none."""
        with self._db.look() as db:
            newest = "SELECT at FROM events ORDER BY id DESC LIMIT ?"
            row = db.execute(f"SELECT max(at) FROM ({newest})", (NEWEST,)).fetchone()
        return None if row[0] is None else float(row[0])

    def add(self, event: Event) -> None:
        """One fact, now."""
        detail = event.model_dump(mode="json", exclude={"subject"}, exclude_none=True)
        with self._db.write() as db:
            db.execute(
                "INSERT INTO events (at, kind, subject, detail) VALUES (?, ?, ?, ?)",
                (
                    self._clock(),
                    event.kind,
                    event.subject,
                    json.dumps(detail, sort_keys=True, ensure_ascii=False),
                ),
            )

    def add_rationed(self, event: Event, *, most: int = RATION, within_s: float = RATION_S) -> bool:
        """The same of what anybody can bring about: at most so many of one kind in so long a time.
        False where it is not written down."""
        with self._db.look() as db:
            row = db.execute(
                "SELECT at FROM events WHERE kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?",
                (event.kind, most - 1),
            ).fetchone()
        if row is not None and 0 <= self._clock() - row["at"] < within_s:
            return False
        self.add(event)
        return True

    def copy_to(self, other: EventLog) -> None:
        """Every event here, as if it had been written there."""
        with self._db.look() as db:
            rows = db.execute("SELECT at, kind, subject, detail FROM events ORDER BY id").fetchall()
        with other._db.write() as db:
            db.executemany(
                "INSERT INTO events (at, kind, subject, detail) VALUES (?, ?, ?, ?)",
                [tuple(row) for row in rows],
            )

    def of(self, kind: type[E], limit: int = 100) -> list[Happened[E]]:
        """The newest `limit` of one kind, the newest first.

        A row that does not fit its record any more, such as one of an old release, is left out. So
        is what a later release has added to it.
        """
        with self._db.look() as db:
            rows = db.execute(
                "SELECT at, subject, detail FROM events WHERE kind = ? ORDER BY id DESC LIMIT ?",
                (kind.kind, limit),
            ).fetchall()
        found = []
        for row in rows:
            try:
                detail = json.loads(row["detail"])
                event = kind.model_validate({**detail, "subject": row["subject"]}, extra="ignore")
            except (ValueError, TypeError, ValidationError):
                continue
            found.append(Happened(row["at"], event))
        return found
