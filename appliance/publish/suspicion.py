"""Which message a broker hangs up on: told by where its connections end. Pure.

Some brokers have no word for a message that they will not take: 3.1.1 knows no refusal, and others
just close or acknowledge all but the one. Without an end to it the oldest message would be sent for
ever and hold up all that come after it.

Rules
- Only a connection that worked otherwise counts as lost on a message: the stage says which. A
  broker that is broken, restarting or mute is nobody's fault, and no message dies of it.
- A connection is lost on the oldest message that had no answer. After `Patience.losses` of them on
  one message it is sent alone: nothing else that is owed is on its way with it.
- After as many more that were lost with it alone, it is dead, and the rest goes on. The next ones
  go alone too, until one is taken.
"""

from __future__ import annotations

from collections.abc import Collection

from appliance.store.patience import Patience


class Suspicion:
    """What the connections so far say of the oldest message."""

    def __init__(self, patience: Patience) -> None:
        self._limit = patience.losses
        self._wary = False
        self._key: str | None = None
        self._lost = self._lost_alone = 0

    @property
    def alone(self) -> bool:
        """Whether the oldest message is to be sent alone."""
        return self._wary or self._lost >= self._limit

    def lost(self, oldest: str) -> bool:
        """A connection was lost on this message; True where it is dead now."""
        alone = self.alone
        if oldest != self._key:
            self._key, self._lost, self._lost_alone = oldest, 0, 0
        self._lost += 1
        self._lost_alone += alone
        if self._lost_alone < self._limit:
            return False
        self._key, self._lost, self._wary = None, 0, True
        return True

    def taken(self, keys: Collection[str]) -> None:
        """The broker took these."""
        self._wary = False
        if self._key in keys:
            self._key, self._lost = None, 0
