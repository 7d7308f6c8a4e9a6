"""Images that are looked at give way to an analysis: both want the same processors.

Rules
- While `work` judges a series (its beat says so, at once), an image waits before it is decoded, for
  the first LONGEST_S of that step at most, and never longer than that in all. A chest CT takes
  0.3 s, and on a processor without VNNI 1.2 s: a limit below that gave the processor back to images
  while the last networks ran. A step that lasts longer, such as a very large series, keeps nobody
  waiting any more.
- It is on nobody's way: the wait is here, and `work` knows nothing of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from appliance.store import conditions, heartbeat

STAGE: Final = "work"
LONGEST_S: Final = 3.0
LOOK_S: Final = 0.02
"""From one look at the beat to the next."""


def wait(state: Path) -> None:
    """Returns when no series is being judged, or when it was long enough."""
    end = time.monotonic() + LONGEST_S
    while (left := min(end - time.monotonic(), left_s(state, time.monotonic()))) > 0:
        time.sleep(min(LOOK_S, left))


def left_s(state: Path, now: float) -> float:
    """Seconds for which an image still waits; now: of the monotonic clock."""
    beat = heartbeat.read(state, STAGE)
    if beat is None or beat.step != conditions.JUDGE:
        return 0.0
    return min(LONGEST_S, max(0.0, beat.since + LONGEST_S - now))
