"""Which process of a stage this is: its slot, its lock and beat, and whether it was recalled.

Rules
- An appliance that updates itself lies in numbered slots (appliance.update.places). Who starts a
  stage says the number of its slot in SCANSIDE_SLOT; without slots it is 0, or not said.
- While `receive` is handed over, two of them live: the new one answers before the old one ends. So
  each has a lock and a beat of its own: run/receive@2.lock. Of every other stage there is one
  process, whatever slot it runs from: run/work.lock.
- Where several live, the one of the newest slot speaks for the stage.
- SCANSIDE_RECALLED is 1 where the appliance of the slot was recalled and the box has no other
  (Places.environment): `work` then analyses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SLOT: Final = "SCANSIDE_SLOT"
RECALLED: Final = "SCANSIDE_RECALLED"
HANDED_OVER: Final = ("receive",)
"""Stages whose next process serves before the last one has ended."""


def slot(environ: Mapping[str, str] | None = None) -> int:
    """The number of the slot that this process runs from; 0 without slots."""
    said = (os.environ if environ is None else environ).get(SLOT, "")
    return int(said) if said.isascii() and said.isdigit() else 0


def recalled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process belongs to an appliance that was recalled."""
    return (os.environ if environ is None else environ).get(RECALLED) == "1"


def name_of(stage: str, environ: Mapping[str, str] | None = None) -> str:
    """What the lock and the beat of this process as `stage` are called."""
    number = slot(environ)
    return f"{stage}@{number}" if number and stage in HANDED_OVER else stage


def names(state: Path, stage: str) -> list[str]:
    """What they are called of each process that ever was `stage` here, the newest slot first."""
    found = {
        number: path.stem
        for path in (state / "run").glob(f"{stage}@*.lock")
        if (number := path.stem.partition("@")[2]).isascii() and number.isdigit()
    }
    numbered = [found[number] for number in sorted(found, key=int, reverse=True)]
    return [*numbered, stage]
