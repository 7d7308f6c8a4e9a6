"""A child that writes what `apply` writes down for itself, and announces each step.

    apply_workload.py TRUSTED ACKNOWLEDGED

A line of the audit, a wish, the number of the newest release and where it stands, again and again;
the files of the audit are so small that they are changed every few lines. A line of ACKNOWLEDGED
comes after each step.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from appliance.apply import audit as audits
from appliance.apply.audit import Audit
from appliance.apply.notes import Notes
from appliance.update import steps
from appliance.update.places import Places
from appliance.update.states import State
from appliance.update.steps import Steps

ROUNDS = 12
SMALL, KEPT = 700, 3
AT = datetime(2026, 7, 1, tzinfo=timezone.utc)


def audit_of(folder: Path) -> Audit:
    return Audit(folder, lambda: AT, lambda *_: None)


def main(folder: Path, told: Path) -> None:
    audits.MOST_BYTES, audits.KEPT = SMALL, KEPT
    handle = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(**line: int) -> None:
        os.write(handle, json.dumps(line).encode() + b"\n")

    audit, notes = audit_of(folder), Notes(folder)
    places = Places(folder, folder, folder, folder)
    for number in range(1, ROUNDS + 1):
        audit.add("apply", "update", {"what": f"line {number}"})
        say(line=number)
        notes.wish(asked=number)
        say(asked=number)
        notes.know(highest=number)
        say(highest=number)
        release = f"stable/{number}.json"
        steps.write(places, Steps(release=release, state=State.FETCHING, begun=AT))
        say(release=number)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
