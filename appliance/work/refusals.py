"""What `work` says of bundles that it should use and cannot: its beat, and an event a change."""

from __future__ import annotations

from pathlib import Path

from appliance.store.bell import ring
from appliance.store.events import BundlesRefused
from appliance.store.heartbeat import Heart, TroubleCode
from appliance.store.journal import Journal


class Refusals:
    """Told at each look at the shelf; says what is new."""

    def __init__(self, state: Path, journal: Journal, heart: Heart) -> None:
        self._state = state
        self._journal = journal
        self._heart = heart
        self._said = ""

    def note(self, troubles: tuple[str, ...]) -> None:
        """What is wrong now, each a sentence."""
        text = "; ".join(troubles)
        if text == self._said:
            return
        self._said = text
        if text:
            self._heart.suffer(TroubleCode.BUNDLE_REFUSED, text)
        else:
            self._heart.recover(TroubleCode.BUNDLE_REFUSED)
        self._heart.go_on()
        self._journal.events.add(BundlesRefused(text=text))
        ring(self._state, "publish")
