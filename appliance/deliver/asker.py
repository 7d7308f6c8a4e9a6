"""One archive that is asked to promise that it keeps what it took (storage commitment, PS3.4 J).

Rules
- What `courier` delivered is asked about soon after, up to AT_ONCE objects in a request, on an
  association of its own: objects that wait to be sent never wait for a promise.
- A request is in the journal before it is sent. Where the association ends before the response,
  nobody knows whether it was taken, so it stays open and an answer counts; it is asked again in
  time all the same (`store.commitment`).
- The answer may come on the same association, for which it is kept open for a moment; most
  archives open one to `receive`.
- What the archive does wrong as such (away, rejects us) costs nothing but time, in growing pauses.
  That it promises nothing at all is said of each object once it is dead.
- For the archive that senders are relayed to, their requests are asked too, each by itself.
- That it answers nothing is no trouble of the archive: it is never `away`.
- What was not promised in time is dead, also while the archive is away.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from appliance.deliver.worker import Pace, Worker
from appliance.dicom import answers, part10, statuses, tls
from appliance.dicom.answers import Event
from appliance.dicom.association import Answer
from appliance.dicom.promises import CLASSES, Asking
from appliance.dicom.requestor import Peer
from appliance.errors import PeerAway
from appliance.settings import Deliver
from appliance.store import bell
from appliance.store.commitment import ASKED_AGAIN_S, Reference, Request
from appliance.store.events import CommitmentRefused, HandshakeRefused
from appliance.store.journal import Journal

log = logging.getLogger(__name__)

AT_ONCE: Final = 100
STAGE: Final = "deliver"


class Asker(Worker[Asking]):
    """Asks until it is stopped. All but `wake`, `stop`, `cut` and `seen` is for its own thread."""

    def __init__(
        self,
        to: Deliver,
        journal: Journal,
        state: Path,
        *,
        relays: bool,
        pace: Pace | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(to.name, pace)
        self._journal = journal
        self._state = state
        self._relays = relays
        self._draw = draw
        self._peer = Peer(
            to.host, to.port, to.called_ae, to.ae_title, to.tls, to.certificate
        )  # fmt: skip
        self._troubles = 0
        self._said: str | None = None
        self._waits_for: set[str] = set()
        """Transaction UIDs of this association that are not answered yet."""

    def run(self) -> None:
        """Serve until `stop`."""
        while True:
            self._bell.clear()  # before each look: what rings from here on is heard
            if self._stopping:
                return
            self.seen = time.monotonic()
            if self._journal.commitments.give_up(self.name):
                log.warning("%s has not promised to keep what it took", self.name)
            if not self._is_due():
                self._bell.wait(self._pace.tick_s)
                continue
            try:
                self._ask()
                self._troubles, self._said = 0, None
            except PeerAway as e:
                self._trouble(e)

    def _is_due(self) -> bool:
        found = self._journal.commitments
        return bool(found.due(self.name, 1) or (self._relays and found.to_relay(1)))

    def _ask(self) -> None:
        """One association: all that is due, and what is answered at once. PeerAway."""
        link = self._link = Asking.open(self._peer, CLASSES, self._pace.limits)
        self._waits_for.clear()
        try:
            for request in self._requests():
                if self._stopping:
                    return
                self.seen = time.monotonic()
                self._waits_for.add(request.transaction_uid)
                self._responded(request, link.ask(request, self._heard))
            end = time.monotonic() + self._pace.listen_s
            while self._waits_for and not self._stopping:
                if not link.listen(max(0.0, end - time.monotonic()), self._heard):
                    break
        except PeerAway:
            link.abort()
            raise
        finally:
            self._link = None
            link.release()

    def _requests(self) -> Iterator[Request]:
        """What is due, each in the journal when it is given out."""
        found = self._journal.commitments
        while references := self._references():
            yield found.ask(self.name, references)
        while self._relays and (relayed := found.to_relay(1)):
            yield found.ask_for(relayed[0], self.name)

    def _references(self) -> dict[str, Reference]:
        """Key -> object, of what the archive took and is to be asked about now."""
        named: dict[str, Reference] = {}
        for row in self._journal.commitments.due(self.name, AT_ONCE):
            try:
                read = part10.read(self._state / (row.file or ""))
            except part10.Unreadable as e:
                log.warning("%s is not asked about %s: %s", self.name, row.key, e.text)
                self._journal.commitments.leave(self.name, row.key)
                continue
            named[row.key] = Reference(sop_class=read.sop_class, sop_instance=read.sop_instance)
        return named

    def _responded(self, request: Request, status: int) -> None:
        """The archive has taken the request, or not."""
        if status == 0:
            return
        self._waits_for.discard(request.transaction_uid)
        why = f"it takes no request of storage commitment: 0x{status:04X}"
        if status == statuses.NO_CONTEXT:
            why = "it does not accept the class of storage commitment"
        log.warning("%s: %s", self.name, why)
        self._journal.commitments.not_taken(request, why, pause_s=ASKED_AGAIN_S)

    def _heard(self, event: Event) -> Answer:
        """An answer on our own association."""
        heard = answers.take(self._journal, event, [self.name])
        self._waits_for.discard(heard.transaction_uid)
        if heard.code:
            log.warning("%s: %s", self.name, heard.answer.comment)
            self._journal.events.add_rationed(
                CommitmentRefused(
                    subject=self._peer.called_ae,
                    code=heard.code,
                    text=heard.answer.comment,
                    host=self._peer.host,
                )
            )
        else:
            bell.ring(self._state, STAGE)  # for who sends again, and who tells a sender
        return heard.answer

    def _trouble(self, error: PeerAway) -> None:
        """Only `stop` cuts the pause short. Said once for each reason."""
        if self._stopping:
            return
        if error.text != self._said:
            self._said = error.text
            log.warning("archive %s is not asked: %s", self.name, error.one_line())
            if error.code == tls.FAILED:
                refused = HandshakeRefused(subject=self.name, text=error.text)
                self._journal.events.add_rationed(refused)
        self._troubles += 1
        end = time.monotonic() + self._pace.pauses.pause_s(self._troubles, self._draw)
        while (left := end - time.monotonic()) > 0 and not self._stopping:
            self._bell.clear()
            self.seen = time.monotonic()
            self._bell.wait(min(left, self._pace.tick_s))
