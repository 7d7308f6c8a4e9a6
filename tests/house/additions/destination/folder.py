"""The destination folder: every event and every report as one JSON document.

Rules
- The body is the document itself, with no number of its own: the order is that of the outbox.
- The key says what it is. A preliminary report and its final one have two keys, as they differ.
- What leaves is what the broker is told: pseudonyms, and UIDs only where the report has them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from appliance.naming import Naming
from appliance.report import Report, SeriesKey
from appliance.results.owed import Owed, SeriesEvent

FOLDER = "folder"
"""Its name."""


class Folder:
    """The row of the registry."""

    name = FOLDER
    stage = "drop"
    numbered = False

    def of_event(
        self, event: SeriesEvent, key: SeriesKey, *, naming: Naming, slices: int, at: datetime
    ) -> Iterator[Owed]:
        study, series = naming.study(key.study), str(naming.series(key))
        said = {"event": event, "study": study, "series": series, "slices": slices}
        yield _owed(f"{series}.{event}.{slices}", key, {**said, "at": at.isoformat()})

    def of_report(
        self,
        report: Report,
        key: SeriesKey,
        *,
        naming: Naming,
        at: datetime,
        completes: Report | None = None,
        superseded: int = 1,
    ) -> Iterator[Owed]:
        if report.supersedes is not None:
            yield from self.of_withdrawal(
                report.supersedes, key, naming=naming, at=at, edition=superseded
            )
        named = f"{report.report_id}.{report.stage.value}"
        if report.edition > 1:
            named += f".{report.edition}"
        yield Owed(FOLDER, named, key, report.to_json().encode())

    def of_withdrawal(
        self,
        report_id: uuid.UUID,
        key: SeriesKey,
        *,
        naming: Naming,
        at: datetime,
        edition: int = 1,
    ) -> Iterator[Owed]:
        study = naming.study(key.study)
        said = {"event": "superseded", "study": study, "withdrawn_report_id": str(report_id)}
        named = f"{report_id}.superseded" + (f".{edition}" if edition > 1 else "")
        yield _owed(named, key, {**said, "at": at.isoformat()})

    def described(self, key: str, body: bytes | None) -> str:
        return key


def _owed(key: str, series: SeriesKey, document: dict[str, Any]) -> Owed:
    return Owed(FOLDER, key, series, json.dumps(document).encode())
