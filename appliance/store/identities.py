"""Who the patient is, for the page of the room alone: identities/REPORT_ID.json under the state.

Rules
- Written by `work` after a report went out, and only where [web] names says so; read by `web`;
  deleted by `retain` with its series. The units of all other stages cannot see the folder.
- It holds name, id and birth date as the header of the series has them, in Unicode, and nothing
  else. Control characters, and those that change the direction of text (Unicode 9, bidi controls),
  are taken out: a name must not rewrite the page that shows it. What is longer than LONGEST is cut.
- It is no part of a report, a message or an object, and it is in no backup of the journal.
"""

from __future__ import annotations

import unicodedata
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from appliance.report import Record
from appliance.store import plain
from appliance.store.files import DISK, Disk

FOLDER: Final = "identities"
LONGEST: Final = 200
"""Characters: PS3.5 6.2 allows 64 a component group of a name, and three of them."""


def _plain(value: object) -> object:
    """One line of text without what is no character of it."""
    if not isinstance(value, str):
        return value
    kept = (" " if c.isspace() else c for c in value[: 8 * LONGEST])
    shown = "".join(c for c in kept if unicodedata.category(c)[0] != "C")
    line = " ".join(shown.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


Line = Annotated[str, BeforeValidator(_plain), Field(max_length=LONGEST)]


class Person(Record):
    """Of one series; empty where its header says nothing."""

    name: Line = ""
    """As a person reads it: `Doe, Jane`, or the ideographic group where there is one."""
    patient_id: Line = ""
    birth_date: Line = ""
    """YYYY-MM-DD where the header has a date."""


def keep(state: Path, report_id: uuid.UUID, person: Person, disk: Disk = DISK) -> None:
    """Durable; what was there is replaced. StateUnusable as `Disk.write`."""
    folder = plain.real_folder(state / FOLDER)
    disk.make_folder(folder)
    disk.write(folder / f"{report_id}.json", person.model_dump_json().encode())


def read(state: Path, report_id: uuid.UUID | str) -> Person | None:
    """None where it is not kept, or not to be understood."""
    with suppress(OSError, ValueError):
        found = plain.read(state, FOLDER, f"{report_id}.json", most=1 << 16)
        return Person.stored(found)
    return None


def forget(state: Path, report_id: str, disk: Disk = DISK) -> None:
    """It is gone, whether or not it was there."""
    path = state / FOLDER / f"{report_id}.json"
    if path.is_symlink() or path.exists():
        disk.remove(path)


def kept(state: Path) -> list[Path]:
    """All that lie there, by name."""
    with suppress(FileNotFoundError):
        return sorted((state / FOLDER).iterdir())
    return []
