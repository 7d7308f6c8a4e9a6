"""What was measured of water phantoms: qa/<report id>.json under the state folder.

Rules
- It outlives the images and the report that it is of: a trend goes over years. The newest MOST
  stay.
- One writer, `work`. A file is written whole or not at all; one that is damaged, or of a later
  release, is passed over. No symbolic link is followed.
"""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.store import plain
from appliance.store.files import DISK, Disk
from appliance.watching.qa import QaRecord

FOLDER: Final = "qa"
MOST: Final = 2000
"""One each day for five years, or each day of a week for two scanners and more."""
MOST_BYTES: Final = 100_000
"""Of a record; what is larger was written by nobody here."""
_NAME: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json")


def keep(state: Path, record: QaRecord, disk: Disk = DISK) -> None:
    """A record, durable; the one of this report that was there is replaced."""
    folder = plain.real_folder(state / FOLDER)
    disk.make_folder(folder)
    disk.write(folder / f"{record.report_id}.json", record.model_dump_json(by_alias=True).encode())
    for old in every(state)[:-MOST]:
        disk.remove(folder / f"{old.report_id}.json")


def kept(state: Path, report_id: uuid.UUID) -> QaRecord | None:
    """The record of a report; None where there is none, or it cannot be understood."""
    with suppress(OSError, ValueError):
        found = plain.read(state, FOLDER, f"{report_id}.json", most=MOST_BYTES)
        return QaRecord.stored(found)
    return None


def every(state: Path) -> tuple[QaRecord, ...]:
    """All that can be understood, the oldest first."""
    with suppress(OSError):
        names = [path.name for path in (state / FOLDER).iterdir() if _NAME.fullmatch(path.name)]
        found = (kept(state, uuid.UUID(name.removesuffix(".json"))) for name in names)
        there = (one for one in found if one is not None)
        return tuple(sorted(there, key=lambda one: (one.at, str(one.report_id))))
    return ()
