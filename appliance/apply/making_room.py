"""A proof on a machine whose memory holds one bundle only: `work` lets go of its own meanwhile.

Rules.
1. What is not proved for want of memory alone is not refused. It is proved again once the box is
   idle, while `work` is stopped; until then the release waits, and nothing is tried in vain.
2. `receive` goes on. What comes meanwhile is on the disk, and `work` looks at it when it starts.
3. `work` is started again whatever came of it. What memory does not hold even then is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.apply.box import Box
from appliance.apply.proving import is_short
from appliance.apply.switching import WORK
from appliance.errors import ScansideError, StateUnusable


@dataclass
class Room:
    """For the proofs of one box."""

    _short: tuple[int, tuple[Path, ...]] | None = None
    """What memory did not hold beside `work`: it is not tried there again."""

    def proved(self, box: Box, slot: int, paths: Sequence[Path], *, idle: bool) -> str | None:
        """As Box.prove. StateUnusable (`update_memory`) where this waits for an idle box."""
        asked = (slot, tuple(paths))
        if self._short != asked:
            why = box.prove(slot, paths)
            if why is None or not is_short(why):
                return why
            self._short = asked
        if not idle:
            raise StateUnusable(
                "memory does not hold what is to be proved beside what `work` has open",
                code="update_memory",
                remedy="Nothing: it goes on when no study is under way.",
            )
        runs = box.slots.current() or 0
        box.tell("work makes room", {"slot": str(slot)})
        box.units.stop(WORK, runs)
        try:
            return box.prove(slot, paths)
        finally:
            self._short = None
            with contextlib.suppress(ScansideError):  # it stays wanted, and is started again
                box.units.start(WORK, runs)
