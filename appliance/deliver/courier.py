"""One archive, served by one thread: what has its file is sent, one object at a time.

Rules
- Delivered means that the archive answered the object (`dicom.statuses`, `dicom.stow`). Until then
  it waits in the journal, and goes again as it is, under the same UID: an archive that had it
  answers a duplicate, or success.
- A link to it (`archive`) is kept while there is work, and `idle_s` longer.
- What the archive does wrong as such (away, rejects us, full) costs nothing but time: growing,
  jittered pauses, and after each of them one object, until something is taken. So an archive that
  is down is asked with one object only, and nothing that waits for it ever dies of that. Where it
  says for how long (Retry-After), it is not asked before.
- What it says of one object is that object's: it is sent, rests, or is dead (`dicom.statuses`,
  `turns`). Several in a row that it does not take let the courier pause too.
- A 3D report whose class it refuses is ordered once in the older class (`results.pacs.older`).
- Nobody else waits: each archive has its own thread, its own link and its own rows.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.deliver import offer
from appliance.deliver.archive import Archive, Link, Waits
from appliance.deliver.association import ByAssociation
from appliance.deliver.turns import Turns
from appliance.deliver.web import ByWeb
from appliance.deliver.worker import Pace, Worker
from appliance.dicom import part10, statuses
from appliance.dicom.requestor import Limits
from appliance.dicom.statuses import Answer, Reply
from appliance.errors import PeerAway
from appliance.results import pacs
from appliance.settings import Deliver, Stow
from appliance.store import hint
from appliance.store.delivery import Event
from appliance.store.events import ArchiveAway, ArchiveReached
from appliance.store.hint import Hint
from appliance.store.journal import Journal
from appliance.store.rows import OwedRow

log = logging.getLogger(__name__)

SR_CLASS_REFUSED: Final = "sr_class_refused"
"""How the last error of a report begins whose class the archive refuses."""
FEW: Final = 3
"""Refusals, or attempts to reach the archive, in a row: more are not the network's whim."""


class Courier(Worker[Link]):
    """Serves one archive until it is stopped. All but `wake`, `stop`, `cut`, `away` and `seen` is
    for its own thread."""

    def __init__(
        self,
        to: Deliver | Stow,
        journal: Journal,
        state: Path,
        *,
        pace: Pace | None = None,
        draw: Callable[[], float] = random.random,
        delivered: Callable[[], None] = lambda: None,
    ) -> None:
        """delivered: is called when the archive has taken something and nothing more waits."""
        super().__init__(to.name, pace)
        self._journal = journal
        self._state = state
        self._draw = draw
        self._delivered = delivered
        self._took = False
        """Whether it has taken something since `delivered` was called."""
        self._archive = spoken_to(to, self._pace.limits)
        self._turns = Turns(self._pace.tries, draw)
        self._used = 0.0
        self._troubles = 0
        """Attempts in a row of which the archive took nothing."""
        self._said: str | None = None

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            while True:
                self._bell.clear()  # before each look: what rings from here on is heard
                if self._stopping:
                    return
                self.seen = time.monotonic()
                row = self._next()
                if row is None:
                    self._rest()
                else:
                    self._serve(row)
        finally:
            self._hang_up()

    # What is sent.

    def _next(self) -> OwedRow | None:
        while True:
            room = self._turns.room
            rows = self._journal.owed.ready(self.name, room)
            if not rows:
                self.away = None
            row = self._turns.first(rows, time.monotonic())
            if row is not None or self._turns.room <= room:
                return row

    def _serve(self, row: OwedRow) -> None:
        """Send one object, and write down what became of it."""
        try:
            found = part10.read(self._state / (row.file or ""))
        except part10.Unreadable as e:
            self._never(row, e.one_line())
            return
        try:
            link = self._open()
        except PeerAway as e:
            self._journal.owed.later(self.name, row.key, e.text, counts=False)
            self._trouble(e)
            return
        try:
            reply = link.store(found)
        except part10.Unreadable as e:
            self._never(row, e.one_line())
        except PeerAway as e:
            self._drop_link()
            if not self._stopping:
                self._lost(row, e)
        else:
            self._used = time.monotonic()
            self._answered(row, found, reply)

    def _answered(self, row: OwedRow, found: part10.Object, reply: Reply) -> None:
        meant, said = reply.meant, reply.said
        if meant is Answer.SENT:
            self._journal.owed.ack(self.name, [row.key], mark=reply.mark)
            self._turns.taken(row.key)
            self._took = True
            self._reached()
            return
        if meant is Answer.BUSY:
            self._journal.owed.later(self.name, row.key, said, counts=False)
            self._trouble(PeerAway(f"{self._archive}: {said}", code="archive_full"))
        elif meant is Answer.UNCLEAR:
            self._refused(row, said)
        elif meant is Answer.CLASS_REFUSED and self._in_older_class(row, found, said):
            self._turns.over(row.key)
        else:
            self._never(row, said)

    def _refused(self, row: OwedRow, said: str) -> None:
        """The archive does not take it and does not say why: it rests, or is dead."""
        refused = self._journal.owed.later(self.name, row.key, said)
        log.warning("%s refuses %s: %s", self.name, row.key, said)
        if statuses.event(Answer.UNCLEAR, refused) is Event.NEVER:
            self._never(row, said)
        self._troubles += 1
        if self._troubles >= FEW:
            self._pause()

    def _never(self, row: OwedRow, why: str) -> None:
        log.warning("%s will not get %s: %s", self.name, row.key, why)
        self._journal.owed.never(self.name, row.key, why)
        self._turns.over(row.key)

    def _in_older_class(self, row: OwedRow, found: part10.Object, said: str) -> bool:
        """Order a report in the older class instead, where there is one and its series is there."""
        one = pacs.ordered(row.body)
        if one is None or found.sop_class != offer.COMPREHENSIVE_3D_SR:
            return False
        series = self._journal.reports.series_of(one.report_id)
        instead = pacs.older(self.name, row.key, one, series) if series is not None else None
        why = f"{SR_CLASS_REFUSED}: {said} It is ordered in the older class."
        if instead is None:
            return False
        ordered = self._journal.order_instead(self.name, row.key, why, instead)
        if ordered:
            hint.send(self._state, Hint(ordered=True))  # `work` composes it
        return ordered

    # The archive as such.

    def _open(self) -> Link:
        """The link: the one that is kept, or a new one. PeerAway."""
        if self._link is not None and self._link.is_over():
            self._drop_link()
        if self._link is None:
            self._link = self._archive.open()
            self._used = time.monotonic()
        return self._link

    def _lost(self, row: OwedRow, error: PeerAway) -> None:
        """The link ended while this object was under way, or is of no use for now."""
        counts = self._turns.lost(row.key)
        if counts and not isinstance(error, Waits):
            self._refused(row, f"{error.text}, while it took others")
        else:
            self._journal.owed.later(self.name, row.key, error.text, counts=False)
            self._trouble(error)

    def _trouble(self, error: PeerAway) -> None:
        """The archive takes nothing for now. Said once for each reason."""
        if error.text != self._said:
            self._said = error.text
            log.warning("archive %s: %s", self.name, error.one_line())
            self._journal.events.add_rationed(
                ArchiveAway(subject=self.name, text=error.text, code=error.code)
            )
        self._troubles += 1
        told_s = error.at_least_s if isinstance(error, Waits) else 0.0
        if self._troubles >= FEW or told_s > self._pace.pauses.longest_s:
            self.away = f"{self.name}: {error.text}"
        self._pause(told_s)

    def _reached(self) -> None:
        if self._said is not None:
            self._journal.events.add(ArchiveReached(subject=self.name))
        self._troubles, self._said, self.away = 0, None, None

    def _pause(self, at_least_s: float = 0.0) -> None:
        """Only `stop` cuts it short: what is owed newly does not bring the archive back."""
        pause_s = max(self._pace.pauses.pause_s(self._troubles, self._draw), at_least_s)
        end = time.monotonic() + pause_s
        while (left := end - time.monotonic()) > 0:
            self._bell.clear()
            if self._stopping:
                return
            self._end_if_idle()
            self.seen = time.monotonic()
            self._bell.wait(min(left, self._pace.tick_s))

    def _rest(self) -> None:
        """Nothing to do: wait for the bell, and end a link that is not used any more."""
        if self._took:
            self._took = False
            self._delivered()
        self._end_if_idle()
        kept = self._link is not None
        self._bell.wait(min(self._pace.idle_s, self._pace.tick_s) if kept else self._pace.tick_s)

    def _end_if_idle(self) -> None:
        if self._link is not None and time.monotonic() - self._used >= self._pace.idle_s:
            self._hang_up()

    def _hang_up(self) -> None:
        """Release the link, if there is one."""
        link, self._link = self._link, None
        if link is not None:
            link.release()

    def _drop_link(self) -> None:
        """The link is of no use any more."""
        link, self._link = self._link, None
        if link is not None:
            link.abort()


def spoken_to(to: Deliver | Stow, limits: Limits) -> Archive:
    """The archive of these settings."""
    return ByWeb(to, limits) if isinstance(to, Stow) else ByAssociation(to, limits)
