"""`scanside run`: all stages under one parent, for a laptop, a container or a demo.

On a device systemd does this, one unit a stage. The rules are the same: each stage is a process of
its own; one that dies is started again (child.py); SIGTERM, Ctrl-C or the end of the terminal stops
all, senders first, so that what was acknowledged is still worked on and published. The pause is
this parent's: that of `store/starts.py` is for what systemd starts.

With slots ([update] root), the parent is for an update what systemd is on a device:

- each stage runs the Python of the slot `current`; `apply` and `update` whichever that is when they
  begin;
- it holds the DICOM socket, and hands it to each `receive`;
- it does what is asked in its folder control/ (control.py);
- it runs `guard` at its start, before the stages, and every 10 s while a release is on trial.
"""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from appliance import stages as table
from appliance.receive.connections import listening_socket
from appliance.run import child as children
from appliance.run.child import Child, Family
from appliance.run.control import Control
from appliance.run.slots import Slots, places_of
from appliance.settings import Settings
from appliance.update.units import PLAIN

log = logging.getLogger("scanside.run")

STOP_WITHIN_S = 40.0
LOOK_S = 0.5
LOOK_WITH_SLOTS_S = 0.1
"""How often control/ is looked into."""


def run(
    config: Path | None,
    settings: Settings,
    ready: Callable[[], object] | None = None,
) -> int:
    """Start all stages that the settings, those of the file `config`, ask for, and supervise them
    until SIGTERM, SIGINT or SIGHUP. 0 when all stopped by themselves within the time they have."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scanside-run-")))
        ended = stack.enter_context(_signals())
        parent = stack.enter_context(_parent(config, settings, folder))
        parent.selector.register(ended, selectors.EVENT_READ, None)
        announced = False
        while True:
            parent.turn()
            for key, _ in parent.selector.select(timeout=parent.look_s):
                if key.data is None:
                    return parent.stop()
                key.data.hear()
            if not announced and parent.serves:
                announced = True
                log.info("all stages are ready")
                if ready is not None:
                    ready()


class Parent:
    """The children, and what may be asked of them."""

    def __init__(self, family: Family, order: tuple[str, ...], slots: Slots | None) -> None:
        self.selector = selectors.DefaultSelector()
        self._family = family
        self._order = order
        self._slots = slots
        self._children: dict[tuple[str, int], Child] = {}
        self._control: Control | None = None
        slot = 0
        if slots is not None:
            self._control = Control(slots.control, self._children, frozenset(order), self._add)
            slot = slots.begin()
        for name in order:
            self._add(name, 0 if name in PLAIN else slot)

    @property
    def look_s(self) -> float:
        """Longest sleep between two turns."""
        return LOOK_S if self._slots is None else LOOK_WITH_SLOTS_S

    @property
    def serves(self) -> bool:
        """Whether all children are ready."""
        return all(child.ready for child in self._children.values())

    def turn(self) -> None:
        """Whatever is due now."""
        now = time.monotonic()
        if self._control is not None:
            self._control.turn(now)
        for key, child in list(self._children.items()):
            child.turn(now)
            if child.gone:
                self._remove(key)
        if self._slots is not None:
            self._slots.watch(now)

    def stop(self) -> int:
        """Stop all, senders first; 0 when each ended well and in time."""
        until = time.monotonic() + STOP_WITHIN_S
        clean = True
        for child in sorted(self._children.values(), key=self._place, reverse=True):
            child.hear()
            child.stop(time.monotonic())
            while not child.gone:
                time.sleep(0.01)
                if time.monotonic() > until:
                    log.error("%s did not stop in time and is killed", child)
                    child.kill()
                    clean = False
                    until += STOP_WITHIN_S
                child.turn(time.monotonic())
            clean &= child.clean
        return 0 if clean else 1

    def close(self) -> None:
        """Leave nothing behind."""
        if self._slots is not None:
            self._slots.close()
        for key in list(self._children):
            self._remove(key)
        self.selector.close()

    def _place(self, child: Child) -> int:
        return self._order.index(child.name)

    def _add(self, name: str, slot: int) -> Child:
        child = Child.of(name, slot, self._family)
        self._children[name, slot] = child
        self.selector.register(child.notify, selectors.EVENT_READ, child)
        return child

    def _remove(self, key: tuple[str, int]) -> None:
        child = self._children.pop(key)
        self.selector.unregister(child.notify)
        child.close()


@contextmanager
def _parent(config: Path | None, settings: Settings, folder: Path) -> Iterator[Parent]:
    order = tuple(row.name for row in table.of(settings))
    places = places_of(settings)
    with ExitStack() as stack:
        if places is None:
            plain = children.own_python, children.nothing_more
            family, slots = Family(folder, settings.state, config, *plain), None
        else:
            slots = Slots(places, folder / "control")
            listening = listening_socket(settings.dicom.bind, settings.dicom.port)
            stack.enter_context(listening)
            children.keep_free(listening)
            family = Family(
                folder, settings.state, config, slots.python, slots.environment, listening
            )
        parent = Parent(family, order, slots)
        stack.callback(parent.close)
        yield parent


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that becomes readable at SIGTERM, SIGINT or SIGHUP (not under nohup)."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield receiver
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        receiver.close()
        sender.close()
