"""Which of several series is taken first. Pure.

Rules
- What is `stat` goes before what is `routine`; among equals, what waits longest.
- A study is `stat` where one of its series is: by the sender's `[[dicom.allow]] priority`, by the
  word of an image (`series.requested`), or by the command `stat` over MQTT. It stays so.
- `work` has one thread. What it has begun (an analysis: about a second) is ended first.
- Only this order changes. The outbox keeps its own: what is said first is delivered first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from appliance.report import Priority

_T = TypeVar("_T")


def first(waiting: Mapping[_T, tuple[Priority, float]]) -> _T:
    """Of those that wait, each with its priority and since when (seconds), the one to take now."""
    return min(waiting, key=lambda one: (waiting[one][0] != "stat", waiting[one][1]))
