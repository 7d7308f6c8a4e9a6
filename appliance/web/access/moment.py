"""A moment that a jump of the clock does not move.

Within one boot ages are those of a clock that only goes on (CLOCK_BOOTTIME of clock_gettime(2)).
Over a boot there is the clock of the day alone: who was seen later than now has an endless age, so
that a clock that was set back lengthens nothing.
"""

from __future__ import annotations

import math
import time

from appliance.host.boot import boot_id
from appliance.report import Record


class Moment(Record):
    wall: float
    """Seconds since 1970, UTC."""
    boot: str
    tick: float
    """Seconds since this boot."""

    def age_s(self, now: Moment) -> float:
        """Seconds from then to `now`."""
        if self.boot == now.boot:
            return now.tick - self.tick
        passed = now.wall - self.wall
        return passed if passed >= 0 else math.inf


def now() -> Moment:
    return Moment(wall=time.time(), boot=boot_id(), tick=time.clock_gettime(time.CLOCK_BOOTTIME))
