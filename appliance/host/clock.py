"""Whether the clock of this machine can be right. Pure: what is known comes in as an argument.

A clock is wrong, as far as can be known without another one, where it shows a time
- before EARLIEST: this software did not exist;
- more than SLACK_S before something that has already happened: the newest rows of the journal, or a
  time that this process has itself seen. Nobody here can tell whether the time before a jump back
  or the one after it is right, so it is said for LASTS_S, and then the new time counts;
- more than LONGEST_S after the newest row: no box is switched off for so long, but a clock whose
  battery is empty may show any year.

A wrong clock stops no work: order, deletion and completeness do not depend on it. It makes times in
reports wrong, and certificates seem invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

EARLIEST = datetime(2025, 1, 1, tzinfo=timezone.utc)
"""The year of the first line of this software. Raise it with a release; never to a day to come."""
SLACK_S = 60.0
"""A time server corrects a clock by less than this while it runs."""
LONGEST_S = 10 * 365.25 * 86400
LASTS_S = 86400.0


def why_wrong(now: float, latest: float | None) -> str | None:
    """Why `now` cannot be the time; None where it can. Both are seconds since 1970, UTC.

    latest: when the last thing happened that is known to have happened, if there is any.
    """
    if now < EARLIEST.timestamp():
        return f"the clock shows {_day(now)}, before this software was made"
    if latest is None:
        return None
    if now < latest - SLACK_S:
        return f"the clock shows {_day(now)}, and the journal has later rows ({_day(latest)})"
    if now > latest + LONGEST_S:
        return f"the clock shows {_day(now)}, and the journal's last row is of {_day(latest)}"
    return None


@dataclass(slots=True)
class Watch:
    """Follows the clock while a process runs: what it has seen has happened."""

    latest: float | None
    since: float | None = None
    """Tick of the monotonic clock at which it was found to be wrong."""

    def wrong(self, now: float, tick: float) -> str | None:
        """Why the clock cannot be right now, at this tick (`why_wrong`); None where it can."""
        found = why_wrong(now, self.latest)
        if found is None:
            self.since = None
            self.latest = now if self.latest is None else max(now, self.latest)
        elif self.since is None:
            self.since = tick
        elif tick - self.since > LASTS_S:  # the new time counts, if it can be one at all
            self.latest = None
            return why_wrong(now, None)
        return found


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M} UTC"
