"""The fetch stage: archives are asked for the earlier exams of a patient (`[[priors.query]]`).

    store.fetching (from `work`) -> find -> choose -> move; the archive then stores to `receive`

Rules
- One thread, and one association at a time: nobody waits for an earlier exam, what comes late is
  compared late. A request has `timeout_s` at an archive, and no more.
- A request goes to each archive once, in whatever order they answer, and is removed when all have.
- What an archive does wrong as such (away, rejects us, hangs up, too slow) costs time: growing,
  jittered pauses, the next time another request if there is one. It is asked again until the
  request is a day old.
- What it refuses is asked TRIES times, then given up: an event says why.
- A request whose id would be a pattern is asked of nobody.
- Each outcome is an event, rationed; none says whose exams they were. An archive that was not
  reached FEW times in a row is named in `status` until it answers.
- It sees the requests, the journal (which series are here) and the settings: no spool, no reports,
  no site key, no entries.
"""

from __future__ import annotations

import logging
import math
import random
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.dicom.requestor import Limits
from appliance.dicom.retrieve import CLASSES, Retrieving
from appliance.errors import PeerAway
from appliance.fetch import archive
from appliance.fetch.archive import Asked, Outcome
from appliance.fetch.choice import Series
from appliance.host import notify
from appliance.report import SeriesKey
from appliance.runtime import serving
from appliance.settings import Query, Settings
from appliance.store import bell, fetching
from appliance.store.events import PriorsAsked
from appliance.store.fetching import STAGE, Wanted
from appliance.store.files import DISK
from appliance.store.heartbeat import Heart, TroubleCode
from appliance.store.journal import Journal
from appliance.store.patience import Patience

log = logging.getLogger(__name__)

FEW: Final = 3
TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient it is."""

    pauses: Patience = field(default_factory=lambda: Patience(2.0, 300.0, TRIES))
    limits: Limits = field(default_factory=lambda: Limits(answer_s=8.0))
    """To let us in: shorter than systemd waits for an end. What is asked then has `timeout_s`."""


@dataclass
class Asking:
    """What is known of one archive since the start."""

    query: Query
    answered: set[str] = field(default_factory=set)
    """Names of requests."""
    tries: dict[str, int] = field(default_factory=dict)
    """Name of a request -> how often it did not go well."""
    refusals: dict[str, int] = field(default_factory=dict)
    troubles: int = 0
    """Attempts in a row of which nothing came."""
    due: float = -math.inf
    """Tick before which it is not asked."""
    said: str | None = None
    """Why it is away, once that was said."""

    def next(self, waiting: list[Path]) -> Path | None:
        """The request whose turn it is: of those that went wrong least often the oldest."""
        names = {path.name for path in waiting}
        self.answered &= names
        self.tries = {name: n for name, n in self.tries.items() if name in names}
        self.refusals = {name: n for name, n in self.refusals.items() if name in names}
        left = (path for path in waiting if path.name not in self.answered)
        return min(left, key=lambda path: self.tries.get(path.name, 0), default=None)


class Fetcher:
    """The stage. All but `stop` is for one thread."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        heard: socket.socket,
        heart: Heart,
        *,
        pace: Pace | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._heard = heard
        self._heart = heart
        self._pace = pace or Pace()
        self._draw = draw
        self._archives = [Asking(one) for one in settings.priors.query]
        self._link: Retrieving | None = None
        self._stopping = False

    def stop(self) -> None:
        """End, also what is under way. May be called from a signal handler or a thread."""
        self._stopping = True
        if (link := self._link) is not None:
            link.cut()
        bell.ring(self._settings.state, STAGE)

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            bell.take(self._heard)  # before each look: what rings from here on is heard
            self._heart.beat()
            for one in self._archives:
                if time.monotonic() >= one.due and not self._stopping:
                    self._turn(one)
            self._remove_answered()
            self._say()
            sleep_s = self._sleep_s()
            if sleep_s > 0 and not self._stopping:
                select.select([self._heard], [], [], sleep_s)

    def _say(self) -> None:
        """Which archives are away; and let go what nobody answered in time."""
        away = [f"{one.query.name}: {one.said}" for one in self._archives if one.said is not None]
        if away:
            self._heart.suffer(TroubleCode.PRIORS_AWAY, "; ".join(away))
        else:
            self._heart.recover(TroubleCode.PRIORS_AWAY)
        self._heart.beat()
        if old := fetching.sweep(self._settings.state):
            log.warning("%d requests for earlier exams were not answered within a day", old)

    def _sleep_s(self) -> float:
        """Until the next archive may be asked; no longer than a loop may sleep."""
        waiting = fetching.waiting(self._settings.state)
        due = [one.due for one in self._archives if one.next(waiting) is not None]
        left = min(due, default=math.inf) - time.monotonic()
        return max(0.0, min(left, self._heart.sleep_s))

    def _turn(self, one: Asking) -> None:
        """One request to one archive, where one waits."""
        path = one.next(fetching.waiting(self._settings.state))
        if path is None:
            return
        wanted = fetching.read(path)
        if wanted is None or archive.is_pattern(wanted.patient_id):
            one.answered.add(path.name)
            return
        try:
            outcome = self._asked(one.query, wanted)
        except PeerAway as e:
            if not self._stopping:
                one.tries[path.name] = one.tries.get(path.name, 0) + 1
                self._trouble(one, e)
            return
        if self._stopping:
            return
        if outcome.code == "failed":
            self._refused(one, path, outcome)
            return
        one.troubles, one.said, one.due = 0, None, -math.inf
        one.answered.add(path.name)
        self._said(one, outcome)

    def _asked(self, query: Query, wanted: Wanted) -> Outcome:
        """All of one request on one association. PeerAway."""
        to, limits = archive.peer(query, self._settings), self._pace.limits
        end = time.monotonic() + query.timeout_s
        link = self._link = Retrieving.open(to, CLASSES, limits)
        link.tick = self._heart.go_on
        issuer = self._settings.priors.issuer.strip(" ")
        store_to = archive.destination(query, self._settings)
        try:
            return Asked(link, wanted, issuer, store_to, end, self._has).served()
        except PeerAway:
            link.abort()
            raise
        finally:
            self._link = None
            link.release()

    def _has(self, series: Series) -> bool:
        """Whether as many images of it came already, or are on their way."""
        row = self._journal.series.get(SeriesKey(series.study, series.uid))
        return row is not None and (row.instances is None or row.instances >= series.images)

    def _trouble(self, one: Asking, error: PeerAway) -> None:
        """The archive as such takes nothing from us."""
        self._pause(one)
        log.info("%s: %s", one.query.name, error.one_line())
        if one.troubles >= FEW and one.said != error.text:
            one.said = error.text
            log.warning("archive %s gives no earlier exams: %s", one.query.name, error.one_line())
            self._said(one, Outcome("failed", text=error.text))

    def _refused(self, one: Asking, path: Path, outcome: Outcome) -> None:
        """It answers, and does not do what was asked."""
        one.said = None
        one.tries[path.name] = one.tries.get(path.name, 0) + 1
        count = one.refusals[path.name] = one.refusals.get(path.name, 0) + 1
        if count >= TRIES:
            one.answered.add(path.name)
            one.troubles, one.due = 0, -math.inf
        else:
            self._pause(one)
        if count in (1, TRIES):
            log.warning("archive %s: %s", one.query.name, outcome.text)
            self._said(one, outcome)

    def _pause(self, one: Asking) -> None:
        one.troubles += 1
        one.due = time.monotonic() + self._pace.pauses.pause_s(one.troubles, self._draw)

    def _said(self, one: Asking, outcome: Outcome) -> None:
        self._journal.events.add_rationed(
            PriorsAsked(
                subject=one.query.name,
                code=outcome.code,
                found=outcome.found,
                moved=outcome.moved,
                text=outcome.text,
            )
        )

    def _remove_answered(self) -> None:
        for path in fetching.waiting(self._settings.state):
            if all(path.name in one.answered for one in self._archives):
                fetching.done(path)


def main(settings: Settings, ready: Callable[[], object] = notify.ready) -> int:
    """`scanside fetch`: serve until SIGTERM or SIGINT; 0 after a clean stop."""
    DISK.make_folder(settings.state / fetching.FOLDER)
    return serving.serve(settings, STAGE, Fetcher, ready)
