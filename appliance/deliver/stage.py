"""The deliver stage: objects that were composed go to the archives of the site (`[[deliver]]`).

Rules
- A thread an archive (`courier`), so that one that is down never delays another; one more for each
  that is asked to promise (`asker`), and one that tells senders what was promised (`teller`). This
  thread hears the bell, beats, and ends the stage where one of them ends by an error of ours.
- One of them that makes no progress for longer than its limits allow is stuck: then nothing beats.
- Who is told to end finishes the objects in hand, for GRACE_S at most: what was not answered waits
  in the journal.
- It sees what it sends, the journal and the settings: no spool, no reports, no site key.
- Without `[[deliver]]` it has nothing to do, and `run` and systemd do not start it (`stages.of`).
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from appliance.deliver.asker import Asker
from appliance.deliver.courier import Courier
from appliance.deliver.teller import Teller
from appliance.deliver.worker import Pace, Worker
from appliance.host import notify
from appliance.runtime import serving
from appliance.settings import Deliver, Settings
from appliance.store import bell
from appliance.store.files import DISK
from appliance.store.heartbeat import Heart, TroubleCode
from appliance.store.journal import Journal

STAGE: Final = "deliver"
TICK_S: Final = 5.0
GRACE_S: Final = 8.0


class Deliverer:
    """The stage: its workers, each with a thread."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        heard: socket.socket,
        heart: Heart,
        *,
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._heard = heard
        self._heart = heart
        limits = (pace or Pace()).limits
        self._longest_s = 2 * (
            limits.connect_s + 2 * limits.answer_s + limits.send_s + limits.release_s
        )
        self._workers = list(_workers(settings, journal, pace))
        self._stopping = False
        self._error: BaseException | None = None

    def stop(self) -> None:
        """End. May be called from a signal handler or a thread."""
        self._stopping = True
        for one in self._workers:
            one.begin_nothing()
        bell.ring(self._settings.state, STAGE)

    def run(self) -> None:
        """Serve until `stop`; an error that ended one of them is raised here."""
        threads = [
            threading.Thread(target=self._guarded, args=(one,), name=one.name, daemon=True)
            for one in self._workers
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._stopping and self._error is None:
                self._look()
                select.select([self._heard], [], [], TICK_S)
                if bell.take(self._heard):
                    for one in self._workers:
                        one.wake()
        finally:
            self._end(threads)
        if self._error is not None:
            raise self._error

    def _guarded(self, worker: Worker[Any]) -> None:
        try:
            worker.run()
        except BaseException as e:  # noqa: BLE001 - whatever it is, the stage ends with it
            self._error = e
            bell.ring(self._settings.state, STAGE)

    def _look(self) -> None:
        """Beat, and say which archives take nothing."""
        away = [one.away for one in self._workers if one.away is not None]
        if away:
            self._heart.suffer(TroubleCode.ARCHIVE_AWAY, "; ".join(away))
        else:
            self._heart.recover(TroubleCode.ARCHIVE_AWAY)
        now = time.monotonic()
        if all(now - one.seen < self._longest_s for one in self._workers):
            self._heart.beat()

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        for one in self._workers:
            one.stop()
        end = time.monotonic() + GRACE_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        for one in self._workers:
            one.cut()
        for thread in threads:
            thread.join(1.0)


def _workers(settings: Settings, journal: Journal, pace: Pace | None) -> Iterator[Worker[Any]]:
    """Those that the settings ask for."""
    relays = settings.dicom.commitment == "relay"
    if relays:
        yield Teller(settings.dicom, journal, pace=pace)
    for one in settings.deliver:
        if not isinstance(one, Deliver) or not one.commitment:
            yield Courier(one, journal, settings.state, pace=pace)
            continue
        asker = Asker(one, journal, settings.state, relays=relays, pace=pace)
        relays = False  # the first one is asked for senders
        yield asker
        yield Courier(one, journal, settings.state, pace=pace, delivered=asker.wake)


def main(settings: Settings, ready: Callable[[], object] = notify.ready) -> int:
    """`scanside deliver`: serve until SIGTERM or SIGINT; 0 after a clean stop."""
    DISK.make_folder(settings.state)
    return serving.serve(settings, STAGE, Deliverer, ready)
