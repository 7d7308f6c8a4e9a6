"""How often a destination is asked again, and when what it refuses is dead. Pure.

Every destination has its own figures; which answer is whose fault is its own knowledge too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from appliance.store.delivery import Event


class Fault(Enum):
    """Why something was not taken."""

    OWN = "own"
    """The thing itself is wrong or too large: it will never be taken."""
    FORBIDDEN = "forbidden"
    """It may not be sent there; a person at the other side may allow it yet."""
    PASSING = "passing"
    """The other side is busy, full or broken."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The figures of one destination."""

    shortest_s: float
    longest_s: float
    """Pauses between attempts to reach the destination grow from one to the other."""
    refusals: int
    """After so many refusals what is forbidden is dead."""
    losses: int = 3
    """After so many connections that were lost on a thing it is sent alone; after as many more it
    is dead."""

    def pause_s(self, attempt: int, draw: Callable[[], float]) -> float:
        """Seconds before attempt `attempt` (from 1): doubled each time, the upper half at random.

        draw: a number from 0 to 1. So devices that lost one broker do not return all at once.
        """
        top = min(self.longest_s, self.shortest_s * 2.0 ** min(attempt, 16))
        return max(self.shortest_s, top * (0.5 + 0.5 * draw()))

    def verdict(self, fault: Fault, refused: int) -> Event:
        """LATER or NEVER for what was refused; `refused`: how often so far, with this time."""
        if fault is Fault.OWN or (fault is Fault.FORBIDDEN and refused >= self.refusals):
            return Event.NEVER
        return Event.LATER
