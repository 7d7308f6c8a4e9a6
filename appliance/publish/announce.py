"""When the device speaks of itself on a connection: `status`, `info`, `update`, `health`.

Rules
- `status` is said at every change of its state or reasons, and again after `Pace.status_s`: it is
  retained, and what anybody else wrote there must not stay. `info` and
  `update/reported` are said at every change, and once a connection.
- `health` is sent every `[mqtt] health_s`, and expires after three times as long.
- What they say is composed by `presence`.
"""

from __future__ import annotations

import time

from appliance.publish.link import Direct, Link
from appliance.publish.presence import Known, Presence
from appliance.results import message
from appliance.store.updating import Updating

State = tuple[message.DeviceState, tuple[str, ...]]
"""The state, and every reason against `online`."""


class Announcer:
    """What was said last, and what is due."""

    def __init__(self, presence: Presence, root: str, *, status_s: float, health_s: float) -> None:
        self._presence = presence
        self._root = root
        self._status_s = status_s
        self._health_s = health_s
        self._said: State | None = None
        self._known: Known | None = None
        self._updates: Updating | None = None
        self._status_due = 0.0
        self.health_due = 0.0
        """Seconds of the monotonic clock."""

    def will(self) -> Direct:
        """What the broker says where the connection ends without a word (3.1.2.5)."""
        return Direct.of(self._presence.status("offline", ()), self._root)

    def greet(self, link: Link) -> None:
        """The first word on a new connection; all else is due again."""
        self._known = self._updates = None
        self.health_due = 0.0
        self._said = ("init", ())
        self.repeat(link)

    def status(self, link: Link, state: State) -> None:
        """The status, where it changed or is due again."""
        if state != self._said or time.monotonic() >= self._status_due:
            self._said = state
            self.repeat(link)

    def repeat(self, link: Link) -> None:
        """The status as it was said last."""
        if self._said is not None:
            self._status_due = time.monotonic() + self._status_s
            link.direct.append(Direct.of(self._presence.status(*self._said), self._root))

    def introduce(self, link: Link) -> None:
        """Info, and how updates stand, each where it changed."""
        known = self._presence.known()
        if self._known != known:
            self._known = known
            link.direct.append(Direct.of(self._presence.info(known), self._root))
        updates = self._presence.updates()
        if updates is not None and self._updates != updates:
            self._updates = updates
            link.direct.append(Direct.of(self._presence.update(updates), self._root))

    def health(self, link: Link, now: float, *, paused: bool) -> None:
        """Health, where it is due."""
        if now >= self.health_due:
            self.health_due = now + self._health_s
            expiry_s = max(1, round(3 * self._health_s))
            numbered = self._presence.health(paused=paused)
            link.send(Direct.of(numbered, self._root, expiry_s=expiry_s))
