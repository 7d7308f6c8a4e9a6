"""Sending again: what was delivered or is dead is owed once more, under the same event_id."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone

from appliance.report import Report, event_id
from appliance.results.message import of_report
from appliance.store.part import Part


class Again(Part):
    """One more part of the journal: what was delivered or is dead is owed again."""

    def owe_again(self, report: Report) -> int:
        """All kept messages of the report, and its withdrawal if there was one; how many."""
        ids = event_ids(report)
        marks = ",".join("?" * len(ids))
        with self._db.write() as db:
            return db.execute(
                f"""UPDATE messages SET state = 'waiting', delivered_at = NULL, attempts = 0
                WHERE state IN ('delivered', 'dead', 'waiting') AND event_id IN ({marks})""",  # noqa: S608 - question marks
                [str(i) for i in ids],
            ).rowcount


def event_ids(report: Report) -> tuple[uuid.UUID, ...]:
    """The event_ids of a report's messages; they do not depend on the series or the time."""
    at = datetime.min.replace(tzinfo=timezone.utc)
    own = (o.message.event_id for o in of_report(report, series_uid="", at=at))
    return (*own, event_id(report.report_id, "superseded"))
