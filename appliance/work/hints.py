"""What wakes `work`: hints where to look and that something is to be composed, signals, the
deadline, or whatever else it gives a descriptor of."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from select import select as wait_for_input

from appliance.errors import InstanceRefused
from appliance.report import SeriesKey
from appliance.store import bell
from appliance.store.hint import Hint
from appliance.store.spool import checked_uid

log = logging.getLogger("scanside.work")


@dataclass(frozen=True)
class Hints:
    """What one sleep ended with."""

    keys: frozenset[SeriesKey] = frozenset()
    ended: bool = False
    """An association has."""
    ordered: bool = False
    """Something is to be composed."""
    full: bool = False
    """As many hints waited as the socket holds: others may be lost."""


def wait(
    hints: socket.socket, signals: socket.socket, wait_s: float, also: Iterable[int] = ()
) -> Hints:
    """Sleep until a hint, a signal, a byte for one of the descriptors `also`, or the deadline; then
    take every hint there is."""
    heard = [hints.fileno(), signals.fileno(), *also]
    if not wait_for_input(heard, [], [], wait_s)[0]:
        return Hints()
    keys: set[SeriesKey] = set()
    ended = ordered = False
    payloads = bell.take(hints)
    for payload in payloads:
        try:
            hint = Hint.stored(payload)
            if hint.ordered:
                ordered = True
            elif hint.association is not None:
                ended = True
            else:
                study = checked_uid(hint.study, "study")
                keys.add(SeriesKey(study, checked_uid(hint.series, "series")))
        except (ValueError, InstanceRefused):
            log.warning("a hint that is none was dropped")
    full = len(payloads) >= bell.QUEUE
    return Hints(frozenset(keys), ended=ended, ordered=ordered or full, full=full)


@contextmanager
def signals_of(ask_to_stop: Callable[..., None]) -> Iterator[socket.socket]:
    """A socket that becomes readable at SIGTERM or SIGINT, which call `ask_to_stop`."""
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, ask_to_stop)
            yield receiver
        finally:
            signal.set_wakeup_fd(-1)
