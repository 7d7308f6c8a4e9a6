"""How old things are by time that was itself seen to pass, not by stamps of the wall clock.

The wall clock may jump by years: a battery that is empty, a wrong date typed in, a time server that
comes back. A stamp alone then says nothing. So a ledger, kept over restarts and reboots, says of
each thing when it was first seen as it is now, on a clock of its own that only runs forward.

Rules
- Time passes by CLOCK_BOOTTIME (clock_gettime(2)), which nobody sets and which counts sleep too.
- After a reboot only the wall clock knows how long the machine was off. It is believed forward, and
  for no more than OFF_MOST_S: a wrong date at one start costs a day of the age.
- A ledger that is missing or damaged has seen nothing yet, so nothing is old: things are kept
  longer then, never shorter.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from appliance.host.boot import boot_id
from appliance.report import Record

LEDGER_NAME = "retain.json"
"""Its file in the state folder."""
DAY_S = 86400.0
OFF_MOST_S = DAY_S
JUMP_S = 3600.0
"""Wall clock and uptime that differ by more than this between two looks: the clock was set."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the clocks."""

    wall: float
    """Seconds since 1970."""
    boot: str
    """Which boot this is (random(4): boot_id)."""
    uptime: float
    """Seconds since that boot, sleep included."""


class Ledger(Record):
    """What was seen. `passed`: seconds that were seen to pass, in all."""

    boot: str = ""
    uptime: float = 0.0
    wall: float = 0.0
    passed: float = 0.0
    steady_since: float = 0.0
    """`passed` when the wall clock was last found set."""
    first: dict[str, float] = Field(default_factory=dict)
    """Thing -> `passed` when it was first seen."""

    def seen(self, look: Look, things: Iterable[str]) -> Ledger:
        """The ledger after one more look at which these things were there."""
        by_wall = look.wall - self.wall
        if self.boot == look.boot:
            elapsed = max(0.0, look.uptime - self.uptime)
        elif self.boot:
            elapsed = look.uptime + min(max(0.0, by_wall - look.uptime), OFF_MOST_S)
        else:
            elapsed = 0.0
        passed = self.passed + elapsed
        return Ledger(
            boot=look.boot,
            uptime=look.uptime,
            wall=look.wall,
            passed=passed,
            steady_since=passed if abs(by_wall - elapsed) > JUMP_S else self.steady_since,
            first={thing: self.first.get(thing, passed) for thing in things},
        )

    def age_s(self, thing: str) -> float:
        """Seconds that a thing was surely there; 0 for one that was never seen."""
        return self.passed - self.first.get(thing, self.passed)

    def steady_s(self) -> float:
        """Seconds for which the wall clock told the truth about ages."""
        return self.passed - self.steady_since


def read(path: Path) -> Ledger:
    """The ledger as it was kept; an empty one where it is missing or damaged."""
    try:
        return Ledger.stored(path.read_bytes())
    except (OSError, ValidationError):
        return Ledger()


def look() -> Look:
    """At the clocks of this machine."""
    return Look(time.time(), boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))
