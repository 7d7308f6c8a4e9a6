"""The child that probes with implants (appliance/probe/child.py), as `work` keeps it.

Rules (`child` has those of every child)
- It runs while nothing is followed or compared with earlier exams, and nothing was for IDLE_S, and
  where an open bundle has shapes.
  It is started once for each final report that came since, and once at the start of `work`.
- When anything is followed it is ended at once, and nobody waits for its end: its memory is free
  the sooner, and it holds nothing that must be finished. It is started again when it is idle again.
  To pause it would keep the memory of two volumes from the series that arrives.
- Who is ended on purpose is blamed for nothing.
- There is none where `[watch] probe` is off.
"""

from __future__ import annotations

import time
from typing import Final

from appliance.settings import Settings
from appliance.store.in_hand import Hand
from appliance.store.journal import Journal
from appliance.work.child import Child
from appliance.work.loading import Loading

MODULE: Final = "appliance.probe.child"
IDLE_S: Final = 5.0


class Probing:
    """The child of one state folder."""

    def __init__(
        self, settings: Settings, journal: Journal, loading: Loading, module: str = MODULE
    ) -> None:
        """loading: it has the bundles that are open. module: what is run as the child."""
        self._journal = journal
        self._loading = loading
        self._hand = Hand(settings.state, "probe")
        wanted = self._wanted if settings.watch.probe else None
        self._child = Child(settings, module, "probing", wanted)
        self._busy = False
        self._idle_since = time.monotonic()
        self._seen: str | None = None
        """The newest report when the child was started last; empty where there was none."""

    @property
    def pid(self) -> int | None:
        """Of the child; None where none is running."""
        return self._child.pid

    def turn(self, *, busy: bool) -> None:
        """Make way, or start where there is something to do. Waits for nothing."""
        self._busy = busy
        if busy:
            self._idle_since = time.monotonic()
            if self._child.interrupt():
                self._hand.clear()
                self._seen = None
        elif time.monotonic() - self._idle_since >= IDLE_S:
            self._child.ask()
        self._child.turn()

    def stop(self) -> None:
        """End it for good."""
        if self._child.interrupt():
            self._hand.clear()
        self._child.stop()

    def _wanted(self) -> bool:
        if self._busy or time.monotonic() - self._idle_since < IDLE_S:
            return False
        if not any(one.manifest.shapes is not None for one in self._loading.loaded or ()):
            return False
        newest = self._journal.reports.recent(1)
        named = f"{newest[0].report_id} {newest[0].stage.value}" if newest else ""
        if named == self._seen:
            return False
        self._seen = named
        return bool(newest)
