"""The check of the stages: whether each serves, and what any of them suffers from.

What it says is made by `store/conditions.py`, as the status over MQTT is. On a machine where
nothing has been started yet that is no failure, unless systemd is to start the stages there.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from appliance.stages import STAGES
from appliance.store import conditions
from appliance.store.conditions import Condition, State
from appliance.verbs.checks.check import Check, Device

UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
"""Where the units of this machine lie (systemd.unit(5))."""
BOOT = "scanside-boot.service"
"""It starts every stage of the slot that is current."""


def stages(device: Device) -> Check:
    """Every stage serves and makes progress, and none suffers from anything."""
    with contextlib.suppress(FileNotFoundError):
        os.listdir(device.settings.state / "run")  # who may not look must not say what is there
    found = conditions.look(device.settings)
    by_systemd = any((folder / row.unit).is_file() for folder in UNITS for row in STAGES)
    if conditions.untouched(found):
        if by_systemd:
            remedy = "systemctl enable --now scanside-receive.socket scanside.target"
            text = "the units are installed, and no stage has ever run here"
            return Check(name="stages", ok=False, text=text, remedy=remedy)
        return Check(name="stages", ok=True, text="no stage has been started on this machine yet")
    texts, remedies = [], []
    for name, one in found.items():
        said = f"{name} {one.state.value}: {one.text}"
        texts.append("; ".join([said, *(f"{t.code.value}: {t.text}" for t in one.troubles)]))
        if one.ill:
            remedies.append(_remedy(name, one, by_systemd))
        remedies += [trouble.remedy for trouble in one.troubles]
    remedy = "\n".join(dict.fromkeys(remedies))
    return Check(name="stages", ok=not remedies, text="\n".join(texts), remedy=remedy)


def _remedy(name: str, one: Condition, by_systemd: bool) -> str:
    """What to type for a stage that does not serve."""
    (unit,) = (row.unit.replace("@.service", "@*") for row in STAGES if row.name == name)
    if not by_systemd:
        verb = "Stop and start" if one.state is State.STUCK else "Start"
        return f"{verb} `scanside run` (or `scanside {name}`), and read what it logs."
    if one.state is State.STUCK:
        return f"journalctl -u '{unit}' -n 50 says what it did last; systemctl restart '{unit}'"
    return f"journalctl -u '{unit}' -n 50 says why it ended; systemctl restart {BOOT}"
