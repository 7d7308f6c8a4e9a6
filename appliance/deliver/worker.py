"""What every thread of the stage is: it looks for work, sleeps until the bell, and ends when told.

Rules
- `wake`, `stop` and `cut`, `away` and `seen` are for the thread of the stage; all else is for the
  worker's own thread.
- A worker clears its bell before it looks, so that what rings from there on is heard.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from appliance.dicom import statuses
from appliance.dicom.requestor import Limits
from appliance.store.patience import Patience

PAUSES: Final = Patience(shortest_s=1.0, longest_s=60.0, refusals=5)


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a worker is."""

    pauses: Patience = PAUSES
    """Between attempts, while the archive takes nothing."""
    tries: Patience = statuses.TRIES
    """Of what is refused without a clear word."""
    limits: Limits = field(default_factory=Limits)
    idle_s: float = 5.0
    tick_s: float = 10.0
    """It looks for what is owed so often, should a ring be lost."""
    listen_s: float = 5.0
    """So long the answer is waited for where an archive was asked to promise."""


class Cuts(Protocol):
    """A connection that may be ended from another thread."""

    def cut(self) -> None: ...


L = TypeVar("L", bound=Cuts)


class Worker(ABC, Generic[L]):
    """One thread. `L`: its connection to a peer."""

    def __init__(self, name: str, pace: Pace | None) -> None:
        self.name = name
        self.away: str | None = None
        """Why its peer has taken nothing for some time; None: it does, or nothing is owed."""
        self.seen = time.monotonic()
        """Tick at which it last began something: what it does is bounded by its limits."""
        self._pace = pace or Pace()
        self._link: L | None = None
        self._bell = threading.Event()
        self._stopping = False

    def wake(self) -> None:
        """There may be something to do."""
        self._bell.set()

    def begin_nothing(self) -> None:
        """What is in hand is the last. May be called from a signal handler: it takes no lock."""
        self._stopping = True

    def stop(self) -> None:
        """End after what is in hand."""
        self.begin_nothing()
        self._bell.set()

    def cut(self) -> None:
        """Do not wait for the peer any longer."""
        link = self._link
        if link is not None:
            link.cut()

    @abstractmethod
    def run(self) -> None:
        """Serve until `stop`."""
