"""Checks of a box that updates itself: its slots, `guard`, the trust in releases, the last update.

Rules
- Without `[update] root` there is nothing to check, and that is no failure.
- What only `apply` may read, it has written into its status for everybody (status.json).
- Timestamp and snapshot are signed anew every day or so: that they end soon is as it should be, and
  only that they have ended is said. Root, targets and the channel are signed by people, who need
  time.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from appliance.errors import ScansideError
from appliance.verbs.checks.check import PATIENCE_S, Check, Device
from appliance.verbs.checks.stages import UNITS

if TYPE_CHECKING:
    from appliance.apply.requests import Status
    from appliance.update.places import Places

SOON = timedelta(days=30)
ONLINE = ("timestamp", "snapshot")
NO_SLOTS = "this is no box that updates itself: [update] root is not set"
GUARD_PATH = "scanside-guard.path"


def slots(device: Device) -> Check:
    """`current` and `previous` lead to whole slots whose Python starts, and this Python may make
    them anew."""
    places = _places(device)
    if places is None:
        return Check(name="slots", ok=True, text=NO_SLOTS)
    from appliance.update import slots as kept  # noqa: PLC0415

    texts, remedies = [], []
    try:
        runs, before = kept.current(places), kept.previous(places)
        whole = {one.slot: one for one in kept.complete(places)}
        for name, number in (("current", runs), ("previous", before)):
            if number is None:
                if name == "current":
                    texts.append("current leads nowhere")
                    remedies.append("Install again from the installer's archive: it makes a slot.")
                continue
            if number not in whole:
                texts.append(f"{name} is slot {number}, which is not complete")
                remedies.append(_rebuild(places, number))
                continue
            texts.append(f"{name} is slot {number} ({whole[number].appliance.version})")
            if not kept.starts(places, number):
                texts[-1] += ", whose Python does not start"
                remedies.append(_rebuild(places, number))
        if others := sorted(whole.keys() - {runs, before}):
            texts.append(f"also complete: {', '.join(map(str, others))}")
        if runs in whole:
            wanted, here = kept.wheel_set(places, runs).python, platform.python_version()
            texts.append(f"Python {here}")
            if not wanted.holds(here.rstrip("+")):
                texts[-1] += f", and the release wants {wanted.words()}"
                remedies.append("Install a Python that the release takes, or a newer release.")
    except ScansideError as e:
        texts.append(e.text)
        remedies.append(e.remedy)
    remedy = "\n".join(dict.fromkeys(remedies))
    return Check(name="slots", ok=not remedies, text="; ".join(texts), remedy=remedy)


def guard(device: Device) -> Check:
    """What goes back from a release that does not run lies outside of the slots, is that of the
    appliance that runs, and is started."""
    places = _places(device)
    if places is None:
        return Check(name="guard", ok=True, text=NO_SLOTS)
    from appliance.apply import guarding  # noqa: PLC0415

    if not places.trial.exists() and (other := guarding.differ(places)):
        text = f"{', '.join(other)} in {places.guard}: missing, or not of the appliance that runs"
        remedy = "`apply` puts them there at its start: sudo systemctl restart scanside-apply, or "
        remedy += "start `scanside run` again."
        return Check(name="guard", ok=False, text=text, remedy=remedy)
    text = "its files are there"
    if any((folder / GUARD_PATH).is_file() for folder in UNITS):
        if (said := _is_active(GUARD_PATH)) not in ("active", ""):
            remedy = f"sudo systemctl enable --now {GUARD_PATH}"
            return Check(name="guard", ok=False, text=f"{GUARD_PATH} is {said}", remedy=remedy)
        return Check(name="guard", ok=True, text=f"{text}; {GUARD_PATH} starts it")
    return Check(name="guard", ok=True, text=f"{text}; `scanside run` starts it")


def trust(device: Device) -> Check:
    """Nothing of what this box trusts ends soon, and the clock fits to what was signed."""
    status, missing = _status(device, "trust")
    if status is None:
        return missing
    from appliance.update import clock  # noqa: PLC0415

    now = datetime.now(timezone.utc)
    if clock.far_ahead(now, status.signed):
        text = f"the clock says {now:%Y-%m-%d}, and the newest that was signed is of "
        text += f"{status.signed:%Y-%m-%d}"
        return Check(name="trust", ok=False, text=text, remedy=clock.CLOCK_REMEDY)
    if not status.ends:
        return Check(name="trust", ok=True, text="no repository was seen yet")
    text = ", ".join(f"{role} until {at:%Y-%m-%d}" for role, at in sorted(status.ends.items()))
    soon = [r for r, at in status.ends.items() if at - (timedelta() if r in ONLINE else SOON) < now]
    if not soon:
        return Check(name="trust", ok=True, text=text)
    remedy = "Ask the fleet team to sign it anew, then: scanside update check"
    if device.settings.update.url is None:
        remedy += " --from DIR, with a stick of today"
    text = f"{', '.join(sorted(soon))} ends soon or has ended; {text}"
    return Check(name="trust", ok=False, text=text, remedy=remedy)


def update(device: Device) -> Check:
    """How the last update went, what waits, and that what runs was not recalled."""
    status, missing = _status(device, "update")
    if status is None:
        return missing
    window = device.settings.update.window or "any time"
    texts = [f"{status.channel}, window {window}, {status.appliance.words()} runs"]
    remedies = []
    if status.steps is not None:
        steps = status.steps
        last = f": {steps.texts[-1]}" if steps.texts else ""
        texts.append(f"{steps.release} is {steps.state.value}{last}")
    if status.recalled is not None:
        texts.append(f"what runs was recalled: {status.recalled}")
        remedies.append("Install a newer release: scanside update now, or --from DIR of a stick")
    if status.trouble:
        texts.append(status.trouble)
        remedies.append("scanside update status says more; then: scanside update check")
    texts += [why.one_line() for why in status.why]
    if (why_not := _answers(device)) is not None:
        texts.append(why_not.text)
        remedies.append(why_not.remedy)
    remedy = "\n".join(remedies)
    return Check(name="update", ok=not remedies, text="; ".join(texts), remedy=remedy)


def _places(device: Device) -> Places | None:
    if device.settings.update.root is None:
        return None
    from appliance.apply.wiring import places_of  # noqa: PLC0415

    return places_of(device.settings)


def _rebuild(places: Places, number: int) -> str:
    return (
        f"sudo python3 {places.guard}/build.py rebuild {number} --root {places.root}; if it says "
        "that it cannot: install again from the installer's archive."
    )


def _status(device: Device, name: str) -> tuple[Status | None, Check]:
    """What `apply` wrote last, or what to say where it wrote nothing."""
    if device.settings.update.root is None:
        return None, Check(name=name, ok=True, text=NO_SLOTS)
    from appliance.apply.requests import read_status  # noqa: PLC0415

    try:
        return read_status(device.settings.update.trusted), Check(name=name, ok=True, text="")
    except ScansideError as e:
        return None, Check(name=name, ok=False, text=e.text, remedy=e.remedy)


def _answers(device: Device) -> ScansideError | None:
    """Why nobody answers at the socket of `apply`; None where somebody does, or this user may not
    ask."""
    from appliance.apply.requests import Request  # noqa: PLC0415
    from appliance.errors import StateUnusable  # noqa: PLC0415
    from appliance.verbs.update import asked  # noqa: PLC0415

    try:
        asked(device.settings, Request(verb="status"))
    except StateUnusable as e:
        return e
    except ScansideError:
        return None
    return None


def _is_active(unit: str) -> str:
    """What systemctl says; "" where it says nothing."""
    program = shutil.which("systemctl")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "is-active", unit],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
