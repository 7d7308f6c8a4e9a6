"""From one slot to another, and back: the trial's files, the links, the units.

Rules.
1. The trial is written down before the links change: from the first moment on `guard` can go back.
2. Receive goes first, and the new one is ready before the old one drains: both hold the socket of
   the unit, so nobody is refused. Every other stage is stopped in the old slot, then started in the
   new one, in the order of appliance/stages.py. `update` starts from `current`, as `apply` does,
   which ends itself afterwards.
3. Every step may be done twice: after a power cut all is done again from the beginning.
4. While a trial runs each turn says that `apply` lives. The release's own may be what is broken:
   then nobody could confirm it, take the next one or go back, but `guard`, which reads this.
5. On the way back nothing stops the rest: a stage that does not start is started again by who
   starts it (systemd, `scanside run`).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable

from appliance.apply.box import Box
from appliance.errors import ScansideError
from appliance.host.boot import boot_id
from appliance.store import instance, trial

LOG = logging.getLogger(__name__)
RECEIVE, UPDATE, WORK = "receive", "update", "work"
STARTS = 3
"""After so many that failed the release is sick; `guard` counts to the same number."""
TRIAL, RECALLED = f"{trial.ON}=1", f"{instance.RECALLED}=1"


def forward(box: Box, new: int, old: int) -> None:
    """Let slot `new` run, on trial. UnitFailed where it does not."""
    environment(box, new, TRIAL)
    box.disk.remove(box.places.reason)
    if not box.places.trial.exists():
        _forget_starts(box)  # of the trial before; those of this one are counted from here on
    lines = (
        f"slot={new}",
        f"previous={old}",
        f"stages={' '.join(box.stages)}",
        f"state={box.settings.state}",
    )
    box.disk.write(box.places.trial, "".join(f"{line}\n" for line in lines).encode())
    live(box)
    box.slots.switch(new)
    _units(box, new, old, lambda what: what())


def live(box: Box) -> None:
    """Rule 4. Not durable: it counts in this boot alone."""
    if not box.places.trial.exists():
        return
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    temp = box.places.alive.with_name(".alive.tmp")
    with contextlib.suppress(OSError):
        temp.write_text(f"{up:.0f} {boot_id()}\n", encoding="ascii")
        temp.replace(box.places.alive)


def backward(box: Box, to: int, bad: int) -> None:
    """Let slot `to` run again, where slot `bad` does; then there is no trial any more."""
    if box.slots.current() != to:
        if box.slots.previous() == to:
            box.slots.back()
        else:
            box.slots.switch(to)
    environment(box, to, "")
    _units(box, to, bad, _whatever_comes)  # also where the links were changed before a power cut
    settle(box, bad)


def settle(box: Box, slot: int) -> None:
    """The trial of this slot is over, in whatever way."""
    environment(box, slot, "")
    box.disk.remove(box.places.trial)
    box.disk.remove(box.places.reason)
    box.places.alive.unlink(missing_ok=True)
    _forget_starts(box)


def _forget_starts(box: Box) -> None:
    """Without this folder no stage believes that it is on trial (appliance.store.trial). It belongs
    to the stages: what they put into its place is not followed."""
    shutil.rmtree(box.places.starts("any").parent, ignore_errors=True)


def environment(box: Box, slot: int, line: str) -> bool:
    """What the units of a slot find in their environment; whether that is another than before."""
    path = box.places.environment(slot)
    if not line:
        there = path.exists()
        box.disk.remove(path)
        return there
    data = f"{line}\n".encode()
    if path.exists() and path.read_bytes() == data:
        return False
    box.disk.make_folder(path.parent)
    box.disk.write(path, data)
    return True


def receive_only(box: Box, slot: int) -> None:
    """What runs in this slot was recalled, and there is no other: it receives, and analyses
    nothing."""
    if environment(box, slot, RECALLED):
        _whatever_comes(lambda: box.units.restart(WORK, slot))


def _units(box: Box, new: int, old: int, do: Callable[[Callable[[], None]], None]) -> None:
    """Rule 2."""

    def start(stage: str) -> None:
        for left in reversed(range(STARTS)):
            if box.units.state(stage, new) == "ready":
                return
            try:
                box.units.start(stage, new)
            except ScansideError:
                if not left:
                    raise

    def stop(stage: str) -> None:
        if box.units.state(stage, old) != "absent":  # one that failed would be started again
            box.units.stop(stage, old)

    do(lambda: start(RECEIVE))
    do(lambda: stop(RECEIVE))
    for stage in box.stages:
        if stage != RECEIVE:
            do(lambda stage=stage: stop(stage))  # type: ignore[misc]
            do(lambda stage=stage: start(stage))  # type: ignore[misc]
    do(lambda: box.units.restart(UPDATE, new))


def _whatever_comes(what: Callable[[], None]) -> None:
    """Rule 5."""
    try:
        what()
    except ScansideError as e:
        LOG.error("%s", e.one_line())
