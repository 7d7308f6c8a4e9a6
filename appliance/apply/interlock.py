"""Whether a study is under way, from journal facts alone: never from a lock file. Pure but for
`look`.

Rules.
1. Idle: no association, nothing followed, and nothing has changed for QUIET_S by the monotonic
   clock. A clock of the day that jumps makes no box idle.
2. Between two series: no association, and nothing that came is waited for or judged at this moment.
   Scanners that send without a pause leave no such moment. After BUSY_S without one any moment is
   one: the next `receive` serves before the last one drains, and `work` ends what it has in hand.
3. An association counts until `receive` has written its end, also where its process is gone: that
   `receive` says at its next start, and the process list of others is hidden from `apply`.
4. Where the journal cannot be read nobody knows, so the box is not idle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from appliance.apply import journals
from appliance.errors import ScansideError
from appliance.host.boot import boot_id

QUIET_S = 60.0
BUSY_S = 60.0
_RECENT = 200


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the journal. `mark` changes with whatever changes in it."""

    associations: int = 0
    followed: int = 0
    mark: str = ""
    analysed: frozenset[str] = frozenset()
    """Version of the appliance and pseudonym of the study of the latest analysed reports."""
    known: bool = True


@dataclass
class Quiet:
    """How long nothing has changed. `idle` and `between` judge one look (rules 1 and 2)."""

    _mark: str | None = field(default=None)
    _since: float = 0.0
    _busy_since: float | None = None

    def idle(self, seen: Seen, tick: float) -> bool:
        """Whether the box has nothing to do, at this tick of the monotonic clock."""
        busy = not seen.known or seen.associations > 0 or seen.followed > 0
        if busy or seen.mark != self._mark:
            self._mark, self._since = (None if busy else seen.mark), tick
        return not busy and tick - self._since >= QUIET_S

    def between(self, seen: Seen, tick: float) -> bool:
        """Whether this is a moment between two series, at this tick of the monotonic clock."""
        if seen.known and seen.associations == 0 and seen.followed == 0:
            self._busy_since = None
            return True
        if self._busy_since is None:
            self._busy_since = tick
        return seen.known and tick - self._busy_since >= BUSY_S


def studies_of(seen: Seen, version: str) -> int:
    """How many studies this version of the appliance has analysed, of the latest."""
    return sum(1 for one in seen.analysed if one.startswith(f"{version} "))


def look(state: Path) -> Seen:
    """The journal now (rules 3 and 4)."""
    try:
        with journals.reading(state) as journal:
            if journal is None:
                return Seen()
            here = boot_id()
            opened = [one for one in journal.series.open_associations() if one.boot == here]
            followed = journal.series.all("open", "complete")
            reports = [one for one in journal.reports.recent(_RECENT) if one.status == "analysed"]
            return Seen(
                associations=len(opened),
                followed=len(followed),
                mark=journal.shown.mark(),
                analysed=frozenset(f"{one.appliance} {one.study.pseudonym}" for one in reports),
            )
    except ScansideError:
        return Seen(known=False)
