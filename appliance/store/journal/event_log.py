"""The event log: facts that a person may ask for, written and read as the records of `events`."""

from __future__ import annotations

import json

from pydantic import ValidationError

from appliance.store.events import E, Event, Happened
from appliance.store.journal.part import Part


class EventLog(Part):
    """`journal.events`."""

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

        A row that does not fit its record any more, such as one of an old release, is left out.
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
                event = kind.model_validate({**detail, "subject": row["subject"]})
            except (ValueError, TypeError, ValidationError):
                continue
            found.append(Happened(row["at"], event))
        return found
