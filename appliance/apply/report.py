"""The status of updates on this box, as one record after each turn. Whoever reads it needs no
right: it holds nothing of a patient, and nothing that is secret."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timezone
from pathlib import Path

from appliance.apply.course import Course
from appliance.apply.requests import STATUS, Status, read_status
from appliance.errors import ScansideError
from appliance.store import updating
from appliance.store.updating import Updating
from appliance.update.states import ENDED, State
from appliance.update.trust import KEPT, Kept
from appliance.update.why import Why

_READABLE = 0o644
_EXPIRES = "%Y-%m-%dT%H:%M:%SZ"


def status(course: Course, *, on: bool) -> Status:
    """How it stands; `on`: the next turn follows at once. ScansideError where nobody knows."""
    box, notes, offers = course.box, course.notes, course.offers
    wishes, done, steps = notes.wishes(), notes.done(), course.steps()
    mark = offers.trust().mark()
    runs = course.running()
    slot = box.slots.current() or 0
    entry = mark.recall.names(runs.digest) if mark.recall is not None else None
    waiting = steps is not None and steps.state not in (*ENDED, State.READY, State.TRIAL)
    found = offers.found
    return Status(
        at=box.clock(),
        channel=box.settings.update.channel,
        url=box.settings.update.url,
        appliance=runs,
        slot=slot,
        previous=box.slots.previous(),
        bundles=box.bundles.active(),
        highest=done.highest,
        hold=notes.holds(),
        recalled=entry.reason if entry is not None else None,
        steps=steps,
        why=course.planned.why,
        offered=tuple(one.path for one in offers.releases),
        signed=mark.made,
        ends=ends(offers.trust().folder),
        found=" ".join(part for part in (found.code, found.text) if part) if found else "",
        trouble=course.trouble,
        seen=wishes.number,
        busy=on or not offers.answered() or (waiting and not notes.holds() and not course.trouble),
        good_slot=course.good_slot(but=slot),
    )


def told(status: Status) -> Updating:
    """The same in codes, for `publish` and the page."""
    steps = status.steps
    waits = [one.release for one in status.why if one.code is Why.NEEDS_ACCEPT]
    return Updating(
        version=status.appliance.version,
        slot=status.slot,
        release=steps.release if steps is not None else None,
        state=steps.state.value if steps is not None else None,
        why=tuple(dict.fromkeys(one.code.value for one in status.why)),
        hold=status.hold,
        recalled=status.recalled is not None,
        accept=next(iter(waits), None),
    )


def ends(folder: Path) -> dict[str, datetime]:
    """When each role of the metadata that is trusted ends; of what cannot be read nothing is said:
    `Trust` does without it, and asks again."""
    found: dict[str, tuple[int, datetime]] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for name, text in Kept.stored((folder / KEPT).read_bytes()).files.items():
            signed = json.loads(text)["signed"]
            at = datetime.strptime(signed["expires"], _EXPIRES).replace(tzinfo=timezone.utc)
            role = name.removesuffix(".json").rpartition(".")[2]  # of root_history/2.root.json
            found[role] = max(found.get(role, (0, at)), (int(signed["version"]), at))
    return {role: at for role, (_, at) in found.items()}


def write(course: Course, *, on: bool) -> None:
    """status.json and updating.json, where they say something new. StateUnusable."""
    made = status(course, on=on)
    folder = course.notes.folder
    updating.write(course.box.disk, folder, told(made))
    try:
        before = read_status(folder)
    except ScansideError:
        before = None
    if before is None or before.model_copy(update={"at": made.at}) != made:
        course.box.disk.write(folder / STATUS, made.model_dump_json(by_alias=True).encode())
        (folder / STATUS).chmod(_READABLE)
