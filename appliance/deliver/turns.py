"""Which of what waits for an archive is sent next. Pure: rows and ticks in, a row out.

Rules
- The oldest goes first.
- What the archive refused without a clear word rests (`statuses.TRIES`) while others go on. The
  rest begins when the row is first seen with that many refusals, so a restart shortens none.
- An object on which the archive hangs up, or goes silent, is tried `losses` times in its place:
  most often the archive is away. Then all others go before it, once each.
- That counts as a refusal without a clear word only where the archive has taken another object
  since the loss before: what an archive that is away costs is nobody's fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appliance.dicom.statuses import TRIES
from appliance.store.patience import Patience
from appliance.store.rows import OwedRow


@dataclass(slots=True)
class _Loss:
    """Associations that were lost on one object."""

    count: int = 0
    taken: int = 0
    """How many objects the archive had taken in all when the last of them was lost."""


@dataclass(slots=True)
class Turns:
    """What is known of the objects that one archive did not take. Ticks are monotonic seconds."""

    tries: Patience = TRIES
    draw: Callable[[], float] = random.random
    _rest: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Key -> (refusals so far, tick until which it rests)."""
    _lost: dict[str, _Loss] = field(default_factory=dict)
    _taken: int = 0

    @property
    def room(self) -> int:
        """So many of the oldest rows must be looked at to find one whose turn it is."""
        return 1 + len(self._rest.keys() | self._lost.keys())

    def first(self, rows: Sequence[OwedRow], tick: float) -> OwedRow | None:
        """The row whose turn it is, of the oldest `room` that wait; None: all of them rest."""
        if len(rows) < self.room:  # these are all: what else is known here does not wait any more
            for key in (self._rest.keys() | self._lost.keys()) - {row.key for row in rows}:
                self.over(key)
        behind: OwedRow | None = None
        for row in rows:
            if self._rests(row, tick):
                continue
            if self._losses(row.key) < self.tries.losses:
                return row
            if behind is None or self._losses(row.key) < self._losses(behind.key):
                behind = row
        return behind

    def lost(self, key: str) -> bool:
        """An association was lost on it; whether that counts as a refusal."""
        loss = self._lost.setdefault(key, _Loss())
        counts = loss.count >= self.tries.losses and self._taken > loss.taken
        loss.count, loss.taken = loss.count + 1, self._taken
        return counts

    def taken(self, key: str) -> None:
        """The archive has taken it."""
        self._taken += 1
        self.over(key)

    def over(self, key: str) -> None:
        """It does not wait any more."""
        self._rest.pop(key, None)
        self._lost.pop(key, None)

    def _rests(self, row: OwedRow, tick: float) -> bool:
        if not row.attempts:
            self._rest.pop(row.key, None)  # a person lets it be tried again
            return False
        refusals, until = self._rest.get(row.key, (0, 0.0))
        if refusals != row.attempts:
            until = tick + self.tries.pause_s(row.attempts, self.draw)
            self._rest[row.key] = row.attempts, until
        return tick < until

    def _losses(self, key: str) -> int:
        return self._lost[key].count if key in self._lost else 0
