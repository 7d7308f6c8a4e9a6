"""Checks of what this device keeps: the state folder, the journal, the spool and the outbox."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import ScansideError
from appliance.host import facts
from appliance.verbs.checks.check import Check, Device


def state(device: Device) -> Check:
    """The state folder can be written and has more free than the reserve."""
    folder = device.settings.state
    change = f"{device.file}: state = "
    place = next((p for p in (folder, *folder.absolute().parents) if p.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as e:
        return Check(
            name="state",
            ok=False,
            text=f"{place} cannot be written: {e.strerror}",
            remedy=f"Give this user {place} (chown), or set {change}to another folder.",
        )
    free, reserve = facts.disk_free_mb(folder) or 0.0, device.settings.retain.reserve_mb
    text = f"{folder}: {free:.0f} MB free, reserve {reserve} MB"
    if free < reserve:
        remedy = (
            f"Free space, or {device.setting('retain', 'reserve_mb')} lower or state elsewhere."
        )
        return Check(name="state", ok=False, text=text, remedy=remedy)
    return Check(name="state", ok=True, text=text)


def journal(device: Device) -> Check:
    """The journal is whole, its audit chain holds, and no damage waits for a person's word. A
    damaged one is suspected from then on, so that `work` looks at it and makes a new one."""
    from appliance.store.journal import JOURNAL_NAME, Journal, damage  # noqa: PLC0415
    from appliance.store.journal.database import damaged  # noqa: PLC0415

    state = device.settings.state
    if (told := damage.read(state)) is not None:
        remedy = (
            "The device goes on with the new one; nothing that was owed is lost. Look at the disk, "
            "keep what was set aside for the fleet team, then type `scanside journal confirm`."
        )
        if not told.finished:
            remedy = "Start `scanside work`: it makes the new one. Free some space on the disk."
        return Check(name="journal", ok=False, text=told.sentence(), remedy=remedy)
    try:
        opened = Journal.read(state)
        if opened is None:
            return Check(name="journal", ok=True, text="made at the first start of a stage")
        with opened:
            if (wrong := opened.whole()) is not None:
                raise damaged(state / JOURNAL_NAME, wrong)
            broken = opened.audit.verify()
            rows, head = opened.audit.head()
    except ScansideError as e:
        if e.code == damage.DAMAGED:
            damage.suspect(state / JOURNAL_NAME, ValueError("the doctor found it damaged"))
        return Check(name="journal", ok=False, text=e.text, remedy=e.remedy)
    if broken is not None:
        return Check(
            name="journal",
            ok=False,
            text=f"the audit chain is broken at row {broken}",
            remedy=f"Keep a copy of {state} and call the fleet team: someone changed it.",
        )
    return Check(name="journal", ok=True, text=f"audit chain of {rows} rows holds, {head[:12]}")


def images(device: Device) -> Check:
    """Whether images came late that do not belong to their series; the newest is shown."""
    from appliance.store.events import ImagesSetAside  # noqa: PLC0415
    from appliance.store.journal import Journal  # noqa: PLC0415

    try:
        opened = Journal.read(device.settings.state)
        if opened is None:
            return Check(name="images", ok=True, text="none came yet")
        with opened:
            late = opened.events.of(ImagesSetAside)
    except ScansideError as e:
        return Check(name="images", ok=False, text=e.text, remedy=e.remedy)
    if not late:
        return Check(name="images", ok=True, text="all belong to their series, or came in time")
    event = late[0].event
    text = f"{len(late)} times images came late that do not belong to their series; last of series "
    text += f"{event.subject}: {event.text}"
    remedy = (
        "Nothing to do here: the report stays. Look at what the sender files under this series."
    )
    return Check(name="images", ok=True, text=text, remedy=remedy)


def outbox(device: Device) -> Check:
    """How much lies in the spool and is owed to each destination; nothing is dead."""
    from appliance.results import destinations  # noqa: PLC0415
    from appliance.store.journal import Journal  # noqa: PLC0415

    spool = device.settings.state / "spool"
    count, size = _size(spool)
    text = f"spool {count} files, {size / 1e6:.0f} MB"
    try:
        opened = Journal.read(device.settings.state)
        if opened is None:
            return Check(name="outbox", ok=True, text=f"{text}; outbox empty")
        with opened:
            archives = device.settings.deliver
            gone = destinations.unnamed(opened.owed.destinations(), archives)
            names = [*(one.name for one in destinations.of(archives)), *gone]
            owed = {name: opened.owed.counts(name) for name in names}
    except ScansideError as e:
        return Check(name="outbox", ok=False, text=e.text, remedy=e.remedy)
    for name, counts in owed.items():
        text += f"; outbox to {name} {counts.waiting} waiting, {counts.dead} dead"
        if counts.oldest_waiting is not None:
            text += f", the oldest for {max(0.0, time.time() - counts.oldest_waiting):.0f} s"
    remedies = [
        f"No [[deliver]] in {device.file} has the name {name}, so nobody gets what it is owed. "
        f"Name one so again, or type `scanside outbox drop --to {name}`."
        for name in gone
    ]
    if any(counts.dead for counts in owed.values()):
        remedies.append(
            "`scanside outbox list` says why it is dead; then `scanside outbox retry`, or `drop` "
            "with its SEQ or --key KEY."
        )
    return Check(name="outbox", ok=not remedies, text=text, remedy="\n".join(remedies))


def _size(folder: Path) -> tuple[int, int]:
    """Files below `folder` and their bytes; what vanishes meanwhile is not counted."""
    count = size = 0
    for path in _files(folder):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
            count += 1
    return count, size


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)
