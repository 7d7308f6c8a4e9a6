"""Acts of readers about a report, for tests of whoever keeps, sends or counts them."""

from __future__ import annotations

import uuid
from typing import Any

from appliance.report import Report
from appliance.results.feedback import Feedback
from rigs.reports import DIGEST

AT = 1_767_355_200.0
"""2026-01-02 12:00 UTC."""


def act(report: Report, verdict: str = "accept", **more: Any) -> Feedback:
    """What a radiologist said of a report: of its first finding, where nothing else is given."""
    about: dict[str, Any] = {}
    if verdict in ("accept", "reject"):
        about = {"finding": 1, "score": 0.9}
    elif verdict == "missed":
        about = {"center_lps_mm": (10.0, -20.0, 30.5), "size_mm": 6.0}
    return Feedback(
        **{
            "uid": uuid.uuid4(),
            "at": AT,
            "study": report.study.pseudonym,
            "series": uuid.UUID(int=7),
            "report_id": report.report_id,
            "bundle": DIGEST,
            "verdict": verdict,
            "role": "radiologist",
            "reader": "ab12",
            **about,
            **more,
        }
    )
