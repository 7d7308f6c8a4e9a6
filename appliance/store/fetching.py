"""Whose earlier exams are wanted: fetch/RANDOM.json under the state, from `work` to `fetch`.

Rules
- Written by `work` when an exam has begun; read and removed by `fetch`. The units of all other
  stages cannot see the folder, because a request names a patient.
- It has the patient's id with its issuer, and the study that is left out, and nothing else. Mode
  0600, and its name says nothing.
- It is gone once every archive has answered, or after a day: what would come then is compared with
  the next exam. A clock that jumps ahead costs a request, and no more than that.
- At most MOST wait; the oldest goes for a new one.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from appliance.report import Record
from appliance.store import bell, plain
from appliance.store.files import DISK, Disk

FOLDER: Final = "fetch"
STAGE: Final = "fetch"
DAY_S: Final = 86400.0
MOST: Final = 500
_LARGEST: Final = 4096


class Wanted(Record):
    """The earlier exams of one patient."""

    patient_id: Annotated[str, Field(min_length=1, max_length=64, repr=False)]
    """In Unicode, without the spaces around it."""
    issuer: Annotated[str, Field(max_length=64, repr=False)] = ""
    """As the image names it; empty where it names none."""
    study: Annotated[str, Field(max_length=64)]
    """Study Instance UID of today's exam, which is not asked for."""


def ask(state: Path, wanted: Wanted, disk: Disk = DISK) -> None:
    """Durable; the stage is woken. StateUnusable as `Disk.write`."""
    folder = plain.real_folder(state / FOLDER)
    disk.make_folder(folder)
    for path in waiting(state)[: -MOST + 1]:
        disk.remove(path)
    disk.write(folder / f"{uuid.uuid4().hex}.json", wanted.model_dump_json().encode())
    bell.ring(state, STAGE)


def waiting(state: Path) -> list[Path]:
    """The requests that wait, the oldest first."""
    return [path for _, path in _files(state) if path.suffix == ".json"]


def read(path: Path) -> Wanted | None:
    """What a request asks for; None where it is gone, or is none."""
    try:
        return Wanted.stored(plain.read(path.parent, path.name, most=_LARGEST))
    except (OSError, ValidationError):
        return None


def done(path: Path, disk: Disk = DISK) -> None:
    """It is answered."""
    disk.remove(path)


def sweep(state: Path, *, older_s: float = DAY_S, disk: Disk = DISK) -> int:
    """Remove what lies there for longer, also what a write that was broken off left. How many."""
    limit = time.time() - older_s
    old = [path for at, path in _files(state) if at <= limit]
    for path in old:
        disk.remove(path)
    return len(old)


def forget(state: Path, disk: Disk = DISK) -> int:
    """Remove all of it, where nobody is asked any more."""
    return sweep(state, older_s=-math.inf, disk=disk)


def _files(state: Path) -> list[tuple[float, Path]]:
    """(when it was written, path), the oldest first."""
    found = []
    with suppress(OSError), os.scandir(state / FOLDER) as entries:
        for entry in entries:
            with suppress(OSError):
                found.append((entry.stat(follow_symlinks=False).st_mtime, Path(entry.path)))
    return sorted(found)
