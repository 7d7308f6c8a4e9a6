"""`apply`: the stage that alone changes slots and shelf. It has no network, and decides by what it
verified itself.

Rules
- One turn of the course after another, at once while there is something to do, else every WAIT_S,
  and at once when somebody asks by the socket. While a release waits for a moment between two
  series that a person wants now, every SOON_S.
- When another slot runs it ends with 0: who started it starts the `apply` of `current`.
- At its start, while no release is on trial, `guard` outside of the slots becomes that of the slot
  that runs, and `previous` is made anew where its Python is gone.
- What cannot be done stays in the status (status.json); nothing but a wrong setting ends it.
- It lives in its own folder (run/apply.lock): nothing of it depends on the state folder.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from appliance.apply import audit as audits
from appliance.apply import decided, guarding, hinted, journals, report, sweeping, switching, wiring
from appliance.apply.audit import Audit
from appliance.apply.box import Box
from appliance.apply.building import Later
from appliance.apply.by_hand import ByHand
from appliance.apply.course import Course, Turn
from appliance.apply.door import Door, opened
from appliance.apply.notes import Notes
from appliance.apply.offers import Offers
from appliance.apply.requests import Requests
from appliance.apply.supply import Supply
from appliance.errors import ScansideError, StateUnusable
from appliance.settings import Settings
from appliance.store.files import DISK
from appliance.store.heartbeat import living
from appliance.update import units

LOG = logging.getLogger(__name__)
WAIT_S, SOON_S = 5.0, 0.5
_READABLE = 0o755


def main(settings: Settings, ready: Callable[[], object] | None = None) -> int:
    """Run until SIGTERM or SIGINT, or until another slot runs."""
    ours = settings.update
    if ours.root is None:
        raise StateUnusable(
            "this is no box that updates itself",
            code="update_no_root",
            remedy="Install with install.sh, or set [update] root to the folder of the slots.",
        )
    stop, woken = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        woken.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    folder = ours.trusted
    DISK.make_folder(folder)
    folder.chmod(_READABLE)  # `update` reads the facts, and everybody the status
    audit = Audit(folder, lambda: datetime.now(timezone.utc), _copier(settings.state))
    box = wiring.box(settings, units.found(), audit)
    notes = Notes(folder)
    course = Course(box, notes, Offers(box, notes), Supply(box))
    later = Later(box)
    by_hand = ByHand(box, partial(wiring.shelf_by_hand, settings), audit.add, woken.set)
    of_scanners = decided.of(settings.state)
    requests = Requests(notes, ours, audit.add, woken.set, by_hand.ask, of_scanners)
    with living(folder, "apply") as heart, opened(folder) as listening:
        box.slots.sweep()
        _look_at(audit)
        door = Door(listening, requests)
        door.open()
        try:
            if ready is not None:
                ready()
            _settle_in(box)
            while not stop.is_set():
                heart.beat()
                woken.clear()
                switching.live(box)
                _heed(course)
                _sweep(box)
                by_hand.turn()
                later.turn(idle=course.idle())
                made = course.turn()
                _report(course, on=made is Turn.ON)
                if made is Turn.END:
                    LOG.info("another slot runs: this process gives way to that of the slot")
                    return 0
                if made is Turn.WAIT:
                    woken.wait(SOON_S if notes.wishes().now else WAIT_S)
        finally:
            by_hand.close()
            door.close()
    return 0


def _look_at(audit: Audit) -> None:
    """What was changed in the audit since is said in the audit."""
    if (number := audits.broken(audit.folder)) is not None:
        LOG.error("line %d of the audit is not the one that was written", number)
        audit.add("apply", "audit broken", {"line": str(number)})


def _sweep(box: Box) -> None:
    try:
        if sweeping.sweep(box):
            LOG.error("more lay in %s than [update] limit_mb allows", box.places.downloads)
    except (ScansideError, OSError) as e:  # what is wrong with it is found again at the next turn
        LOG.error("downloads could not be looked at: %s", e)


def _heed(course: Course) -> None:
    try:
        hinted.heed(course.offers, course.notes)
    except ScansideError as e:  # a hint is worth no more
        LOG.warning("%s", e.one_line())


def _settle_in(box: Box) -> None:
    """What an OS upgrade, or a hand, left behind while no release was on trial."""
    if box.places.trial.exists():
        return
    try:
        if changed := guarding.follow(box.places, box.disk):
            box.tell("guard renewed", {"files": " ".join(changed)})
        if (made := box.slots.mend()) is not None:
            box.tell("slot made anew", {"slot": str(made)})
    except (ScansideError, OSError) as e:  # what runs goes on; the doctor says it too
        LOG.error("what lies beside the slots could not be put right: %s", e)


def _report(course: Course, *, on: bool) -> None:
    try:
        report.write(course, on=on)
    except ScansideError as e:
        LOG.error("%s", e.one_line())
    if course.trouble:
        LOG.warning("%s", course.trouble)


def _copier(state: Path) -> Callable[[str, str, Mapping[str, str]], object]:
    """The journal's audit, where there is a journal."""

    def copy(actor: str, action: str, detail: Mapping[str, str]) -> None:
        with journals.reading(state) as there:
            if there is None:
                return
        with journals.writing(state) as journal:
            journal.audit.add(actor, action, **detail)

    return copy
