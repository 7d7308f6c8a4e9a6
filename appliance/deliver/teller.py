"""Senders are told what an archive promised (storage commitment as an SCP, PS3.4 J.3.3).

Rules
- What the archive answered goes to the address that the settings gave when the sender asked
  ([[dicom.allow]] commitment), under the sender's Transaction UID, on an association of its own.
- After 24 hours without an answer of the archive all of it has failed (0110): nothing is promised
  that the archive has not.
- A sender that is away is told again after a pause; after GIVE_UP_S more it is given up.
- Where `[dicom.tls]` is set, TLS is spoken with it: there is no fallback. It must show the
  `certificate` of its [[dicom.allow]], where that names one.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from appliance.deliver.worker import Pace, Worker
from appliance.dicom.promises import CLASSES, Telling
from appliance.dicom.requestor import Peer
from appliance.errors import PeerAway
from appliance.settings import Dicom
from appliance.store.commitment import GIVE_UP_S, Answer
from appliance.store.journal import Journal
from appliance.store.rows import Relayed

log = logging.getLogger(__name__)

PAUSE_S: Final = 60.0
AT_ONCE: Final = 100
_ADDRESS = re.compile(r"(.{1,16})@\[?([^@\]]+)\]?:(\d{1,5})")


class Teller(Worker[Telling]):
    """Tells until it is stopped. All but `wake`, `stop`, `cut` and `seen` is for its own thread."""

    def __init__(
        self,
        ours: Dicom,
        journal: Journal,
        *,
        pace: Pace | None = None,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # it is never `away`: that a sender hears nothing is no trouble of an archive
        super().__init__("senders", pace)
        self._ours = ours
        self._journal = journal
        self._pause_s = pause_s
        self._clock = clock

    def run(self) -> None:
        """Serve until `stop`."""
        while True:
            self._bell.clear()  # before each look: what rings from here on is heard
            if self._stopping:
                return
            self.seen = time.monotonic()
            if count := self._journal.commitments.fail_late():
                log.warning("%d requests of senders were not answered in 24 hours", count)
            for one in self._journal.commitments.to_tell(AT_ONCE):
                if self._stopping:
                    return
                self.seen = time.monotonic()
                self._tell(one)
            self._bell.wait(self._pace.tick_s)

    def _tell(self, one: Relayed) -> None:
        try:
            status = self._told(one)
        except PeerAway as e:
            problem = e.one_line()
        else:
            problem = f"it answers 0x{status:04X}" if status else ""
        if not problem:
            self._journal.commitments.told(one)
        elif self._clock() - one.came > 2 * GIVE_UP_S:
            log.error("%s is given up, it was never told: %s", one.answer_to, problem)
            self._journal.commitments.told(one)
        else:
            log.warning("%s was not told: %s", one.answer_to, problem)
            self._journal.commitments.not_told(one, pause_s=self._pause_s)

    def _told(self, one: Relayed) -> int:
        """The status of the sender's response. PeerAway."""
        found = _ADDRESS.fullmatch(one.answer_to)
        if found is None:
            raise PeerAway(f"{one.answer_to} is not AE@HOST:PORT")
        named = (line for line in self._ours.allow if line.commitment == one.answer_to)
        certificate = next((line.certificate for line in named), None)
        peer = Peer(
            found[2], int(found[3]), found[1], self._ours.ae_title, self._ours.tls, certificate
        )
        link = self._link = Telling.open(peer, CLASSES, self._pace.limits)
        try:
            return link.tell(_answer(one))
        finally:
            self._link = None
            link.release()


def _answer(one: Relayed) -> Answer:
    failed = one.failed or ()
    not_kept = {each.reference for each in failed}
    return Answer(
        transaction_uid=one.transaction_uid,
        kept=tuple(each for each in one.references if each not in not_kept),
        failed=failed,
    )
