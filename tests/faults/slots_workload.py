"""A child that makes slots, switches between them and removes them, and announces each step.

    slots_workload.py BOX RELEASES ACKNOWLEDGED

makes the slots 1, 2 and 3 and switches to each, makes slot 2 anew as after an OS upgrade, removes
slot 1, and goes back to slot 2. A line of ACKNOWLEDGED comes before each step, and one after it:
where `current` and `previous` may lead, and which slot is whole.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from appliance.update import slots
from rigs.slotted import TinyRelease, box, contents


def main(folder: Path, releases: Path, told: Path) -> None:
    places = box(folder)
    handle = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(**line: object) -> None:
        os.write(handle, json.dumps(line).encode() + b"\n")

    for number in (1, 2, 3):
        release = TinyRelease(releases / str(number), f"{number}.0.0")
        say(changing=number)
        release.build(places, number)
        say(built=number, files=contents(places.slot(number)))
        ran, before = slots.current(places), slots.previous(places)
        say(links=[(ran, before), (ran, ran), (number, ran)])
        slots.switch(places, number)
        say(links=[(number, ran)])
    say(changing=2)
    slots.rebuild(places, 2, python=Path(sys.executable))
    say(built=2, files=contents(places.slot(2)))
    say(changing=1)
    slots.forget(places)
    say(gone=1)
    say(links=[(3, 2), (2, 2)])
    slots.back(places)
    say(links=[(2, 2)])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
