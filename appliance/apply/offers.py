"""What is offered to this box, verified by `apply` itself, and what `update` is told.

Rules.
1. Downloads are a repository that came over the network, whoever wrote them; a folder that a person
   named is a stick. Both are read by the same code (appliance.update.trust).
2. It looks again when `update` says that something came, when a person asks, and at its start.
   Otherwise what was verified last stays; what was recalled stays in any case.
3. `update` is told facts when one of them has changed that it plans with, and never more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from appliance.apply.box import Box, Slot
from appliance.apply.notes import Notes, Taken
from appliance.errors import Refuse, ScansideError, StateUnusable
from appliance.release.record import Release
from appliance.update import clock as clocks
from appliance.update import facts as files
from appliance.update.facts import Found, Told
from appliance.update.plan import Facts, Offer, offer
from appliance.update.source import Folder, Laid
from appliance.update.trust import Trust

ASK_AGAIN_S = 60.0
_BLOCK = 512
"""Bytes of st_blocks (stat(2))."""


@dataclass
class Offers:
    """Of one box."""

    box: Box
    notes: Notes
    releases: tuple[Release, ...] = ()
    trouble: str = ""
    """Why the last look came to nothing."""
    found: Found | None = None
    """What `update` said last; never believed."""
    _seen: tuple[object, ...] | None = None
    _told: Told | None = None
    _asked_again: float | None = None
    _slot_mb: dict[int, float] = field(default_factory=dict)

    def running(self) -> Slot:
        """The slot that `current` leads to. StateUnusable (`update_no_slot`)."""
        number = self.box.slots.current()
        for one in self.box.slots.complete():
            if one.slot == number:
                return one
        raise StateUnusable(
            f"{self.box.places.current} leads to no slot that is complete",
            code="update_no_slot",
            remedy="Install again from the installer's archive: it makes a slot.",
        )

    def trust(self) -> Trust:
        """What this box trusts."""
        folder = self.box.places.trusted / "trust"
        return Trust(folder, self.box.first_root, self.running().made, self.box.disk)

    def at(self) -> datetime:
        """The time, by appliance.update.clock."""
        trust = self.trust()
        return clocks.now(self.box.clock(), trust.built, trust.mark().made)

    def source(self, folder: str | None) -> Folder:
        """Rule 1."""
        return Laid(self.box.places.downloads) if folder is None else Folder(Path(folder))

    def look(self) -> None:
        """Verify what is offered, where there is something new (rule 2). What went wrong is in
        `trouble`; StateUnusable where this box itself is damaged."""
        wishes = self.notes.wishes()
        self.found = files.offered(self.box.places.downloads)
        seen = (wishes.number, wishes.source, self.found)
        if seen == self._seen:
            return
        self._seen, self.trouble = seen, ""
        if wishes.source is None and self.found is None:
            return
        above = max(0, self.notes.done().highest - 1)  # the newest may be tried again
        channel = self.box.settings.update.channel
        try:
            offered = self.trust().refresh(
                self.source(wishes.source), channel, self.box.clock(), above=above
            )
        except Refuse as e:
            self.trouble = e.one_line()
            return
        except ScansideError as e:  # a full disk, a stick that is gone: looked at again
            self.trouble, self._seen = e.one_line(), None
            return
        self.releases = offered.releases

    def with_(self, taken: Taken | None) -> tuple[Offer, ...]:
        """All that is offered, with the release in hand: its stick may be gone already, and what it
        takes is partly on the disk, so that each of its steps looks for room itself."""
        runs, slot_mb = self.running(), self.slot_mb()
        found = {one.path: offer(one, runs.appliance, slot_mb) for one in self.releases}
        if taken is not None:
            found[taken.release.path] = Offer(release=taken.release)
        return tuple(found.values())

    def slot_mb(self) -> float:
        """What the slot that runs takes on the disk, in 10^6 bytes; looked at once a slot."""
        number = self.running().slot
        if number not in self._slot_mb:
            folder = self.box.places.slot(number)
            blocks = sum(one.lstat().st_blocks for one in folder.rglob("*"))
            self._slot_mb[number] = blocks * _BLOCK / 1e6
        return self._slot_mb[number]

    def answered(self) -> bool:
        """Whether what was asked for by hand has been looked for."""
        wishes = self.notes.wishes()
        if wishes.source is not None:
            return True
        if wishes.url is None and self.box.settings.update.url is None:
            return True
        return self.found is not None and self.found.asked >= wishes.asked

    def ask_again(self) -> None:
        """`update` is to look once more; not more often than every ASK_AGAIN_S."""
        tick = self.box.tick()
        if self._asked_again is None or tick - self._asked_again >= ASK_AGAIN_S:
            self._asked_again = tick
            self.notes.ask_again()

    def tell(self, facts: Facts, have: Callable[[], frozenset[str]]) -> None:
        """Rule 3. StateUnusable."""
        wishes = self.notes.wishes()
        told = Told(
            asked=wishes.asked,
            url=wishes.url,
            built=self.running().made,
            slot_mb=self.slot_mb(),
            facts=facts.model_copy(
                update={"in_window": True, "idle": True, "between_series": True}
            ),  # of no use there, and no business of a stage with a network
            have=tuple(sorted(have())),
        )
        before = self._told
        if before is None or _lasting(before) != _lasting(told):
            files.tell(self.box.disk, self.box.places.trusted, told)
            self._told = told


def _lasting(told: Told) -> Told:
    """Without what changes all the time."""
    facts = told.facts.model_copy(update={"at": told.built, "free_mb": 0.0})
    return told.model_copy(update={"facts": facts})
