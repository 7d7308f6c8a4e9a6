"""What a courier needs of an archive, in whatever protocol it is spoken to (`association`, `web`).

Rules
- An archive is opened, and its link then takes one object after the other until it is over.
- A PeerAway costs an object nothing but time, or a turn (`turns`). Of those, Waits is never an
  object's fault: the archive has said that it takes nothing from us now.
"""

from __future__ import annotations

from typing import Protocol

from appliance.dicom.part10 import Object
from appliance.dicom.statuses import Reply
from appliance.errors import PeerAway


class Waits(PeerAway):
    """The archive takes nothing from us now, whatever it is. It may say for how long."""

    def __init__(self, text: str, *, code: str, remedy: str, at_least_s: float = 0.0) -> None:
        super().__init__(text, code=code, remedy=remedy)
        self.at_least_s = at_least_s


class Link(Protocol):
    """A connection to an archive. All but `cut` is for the thread that opened it."""

    def store(self, found: Object) -> Reply:
        """What the archive answers about one object. PeerAway, Unreadable."""

    def is_over(self) -> bool:
        """Whether the archive has ended it while nothing was asked of it."""

    def release(self) -> None:
        """End it in order."""

    def abort(self) -> None:
        """End it at once."""

    def cut(self) -> None:
        """End every wait of the thread that uses it, which then sees a PeerAway."""


class Archive(Protocol):
    """Where it is, and how it is spoken to; its text names it for a person."""

    def open(self) -> Link:
        """PeerAway."""
