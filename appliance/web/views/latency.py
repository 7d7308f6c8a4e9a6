"""How long a result took after the last slice, with the waiting apart. Pure.

Rules
- It counts from the last slice to the commit of the report. That the appliance waits whether more
  slices come is part of it and is said apart: from the last slice until the series was said to be
  complete. A preliminary report does not wait for that.
- A time that is not known is None, never 0. A clock that was set back between two of them makes a
  negative time: that is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.report import Report, Stage


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds after the last slice."""

    total_s: float
    quiet_s: float | None
    """Of these: waiting whether more slices come."""

    @property
    def work_s(self) -> float | None:
        """What the appliance needed itself."""
        return None if self.quiet_s is None else self.total_s - self.quiet_s


def of_report(report: Report, judged: float | None) -> Latency | None:
    """judged: when its series was said to be complete (seconds since 1970); None: unknown."""
    last, committed = report.times.last_slice, report.times.committed
    if last is None or committed is None:
        return None
    total = (committed - last).total_seconds()
    if total < 0:
        return None
    if report.stage is Stage.PRELIMINARY:
        return Latency(total, 0.0)
    quiet = None if judged is None else judged - last.timestamp()
    # a verdict from before the last slice is one on fewer slices
    return Latency(total, quiet if quiet is not None and 0 <= quiet <= total else None)


def slowest(found: Iterable[Latency | None]) -> Latency | None:
    """The longest of them."""
    known = [one for one in found if one is not None]
    return max(known, key=lambda one: one.total_s, default=None)
