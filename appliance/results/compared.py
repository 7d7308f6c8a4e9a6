"""What is said over MQTT of an exam beside an earlier one of the same person. Pure.

Rules
- One message a pair of exams, with the whole Comparison: `compared`, or `not_compared` with the
  reasons. That there is no earlier exam is said too, once.
- It comes after the messages of its report, and changes nothing that the report says.
- An earlier exam that came late, or was withdrawn, leads to other comparisons: each message names
  those that count no more because of it (`withdrawn`). One that is said again, because something
  else of it is true now, keeps its id and has another event_id.
- A report that is withdrawn takes its comparisons with it: the event `superseded` says so.
- Nothing here is a date, a UID of DICOM, a patient's id or a key: a Comparison has none.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field

from appliance.comparison import Comparison
from appliance.naming import Naming
from appliance.report import SeriesKey
from appliance.results.payload import Message


class ComparisonMessage(Message):
    """One exam beside an earlier one, or why there is no comparison."""

    type: Literal["comparison"] = "comparison"
    event: Literal["compared", "not_compared"]
    study: str = Field(pattern=r"^[0-9a-f]{32}$", description="pseudonym of today's exam")
    series: uuid.UUID = Field(description="as the events of the study name it")
    comparison: Comparison
    withdrawn: tuple[uuid.UUID, ...] = Field(
        default=(), description="comparisons of the same report that count no more"
    )


def message(
    comparison: Comparison,
    key: SeriesKey,
    *,
    withdrawn: Sequence[uuid.UUID] = (),
    naming: Naming,
    at: datetime,
) -> ComparisonMessage:
    """The message of one comparison. key: the series of today's report; withdrawn: what counts no
    more because of it."""
    what = comparison.model_dump_json(exclude={"appliance", "committed"})
    return ComparisonMessage(
        event_id=naming.event(comparison.comparison_id, what),
        at=at,
        event=comparison.status,
        study=comparison.study,
        series=naming.series(key),
        comparison=comparison,
        withdrawn=tuple(withdrawn),
        notice=comparison.notice,
    )
