"""The demo's own archive (PACS): an Orthanc that lives as long as the demo, and what it has in the
end.

Rules
- Orthanc is another maker's program; everything about it here is what a site would set up: it knows
  us by AE title, and we know it by a `[[deliver]]`.
- It is proof only if somebody else has it: each object is read back from the archive, by its web
  interface, and is compared with the file that was composed, element by element.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID
from rich.console import Console
from rich.table import Table

from appliance.demo.child import child, free_port
from appliance.errors import PeerAway
from appliance.results.pacs import Ordered
from appliance.store.delivery import State
from appliance.store.journal import Journal
from appliance.store.rows import OwedRow

NAME, AE_TITLE = "orthanc", "ORTHANC"
WITHIN_S = 180.0
"""Composing and delivering take seconds; a slow box has room."""
LOOK_S = 0.2
UNDER_WAY = (State.WAITING, State.DELIVERED)
"""What is delivered is asked about: in the end it is committed."""


@dataclass(frozen=True)
class Archive:
    """An Orthanc that is running."""

    port: int
    """Where it answers DICOM."""
    http: int
    """Where it answers its web interface, on this machine alone."""

    def settings(self) -> str:
        """The table of scanside.toml that makes us deliver there."""
        return (
            f'[[deliver]]\nname = "{NAME}"\nhost = "127.0.0.1"\nport = {self.port}\n'
            f'called_ae = "{AE_TITLE}"\nprofile = ["sr", "seg", "sc"]\ncommitment = true\n'
        )

    def read(self, sop_instance_uid: str) -> Dataset | None:
        """An object as the archive has it; None where it has none of this UID."""
        found = json.loads(self._ask("/tools/lookup", sop_instance_uid.encode()))
        names = [one["ID"] for one in found if one["Type"] == "Instance"]
        if not names:
            return None
        return pydicom.dcmread(io.BytesIO(self._ask(f"/instances/{names[0]}/file")))

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        url = f"http://127.0.0.1:{self.http}{path}"
        with urllib.request.urlopen(url, body, timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def answers(self) -> bool:
        """Whether it serves."""
        with contextlib.suppress(OSError):
            return bool(self._ask("/system"))
        return False


@contextlib.contextmanager
def orthanc(folder: Path, listener: int) -> Iterator[Archive]:
    """Runs while the block does. listener: our DICOM port. PeerAway where it is not installed, or
    does not start."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        raise PeerAway("Orthanc is not installed", remedy="Type: sudo apt-get install orthanc")
    archive, home = Archive(free_port(), free_port()), folder / "orthanc"
    home.mkdir()
    config, log = folder / "orthanc.json", folder / "orthanc.log"
    config.write_text(
        json.dumps(
            {
                "StorageDirectory": str(home),
                "IndexDirectory": str(home),
                "HttpPort": archive.http,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAet": AE_TITLE,
                "DicomPort": archive.port,
                "DicomModalities": {"box": ["SCANSIDE", "127.0.0.1", listener]},
                "DicomAlwaysAllowEcho": False,
                "DicomAlwaysAllowStore": False,
                "DicomCheckModalityHost": True,
                "OverwriteInstances": False,
            }
        )
    )
    with log.open("wb") as said, child([program, str(config)], stdout=said, stderr=said) as process:
        _await(archive, process, log)
        yield archive


def _await(archive: Archive, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + WITHIN_S
    while not archive.answers():
        if process.poll() is not None or time.monotonic() > end:
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise PeerAway(
                "Orthanc did not start: " + " | ".join(tail),
                remedy="Start it by hand with its log, and see what it lacks.",
            )
        time.sleep(LOOK_S)


@dataclass(frozen=True)
class Delivered:
    """What became of one object."""

    kind: str
    """sr, seg, sc."""
    state: str
    """As the outbox has it."""
    sop_class: str
    """Its name; empty where it was not composed."""
    same: bool
    """Whether the archive has promised to keep it, and has it, element by element as it was
    composed."""
    why: str = ""


def show(state: Path, archive: Archive, console: Console) -> bool:
    """A table of what the archive was owed; whether it has all of it."""
    with console.status("waiting for the archive ..."):
        found = delivered(state, archive)
    table = Table("", "object", "outbox says", "read back from the archive")
    for one in found:
        given_up = one.state == State.DROPPED.value
        read = "-" if given_up else "the same" if one.same else f"MISSING OR DIFFERENT {one.why}"
        table.add_row(one.kind, one.sop_class or one.why, one.state, read)
    console.print("\n[bold]In the archive[/bold]")
    console.print(table)
    return bool(found) and all(one.same or one.state == State.DROPPED.value for one in found)


def delivered(state: Path, archive: Archive) -> list[Delivered]:
    """All that the archive was owed, once nothing waits for it any more, or time is up."""
    end = time.monotonic() + WITHIN_S
    rows = _owed(state)
    while not rows or any(row.state in UNDER_WAY for row in rows):
        if time.monotonic() > end:
            break
        time.sleep(LOOK_S)
        rows = _owed(state)
    return [_checked(row, state, archive) for row in sorted(rows, key=lambda row: row.id)]


def _owed(state: Path) -> list[OwedRow]:
    """All that the archive was ever owed."""
    journal = Journal.read(state)
    if journal is None:
        return []
    with journal:
        return [r for one in State for r in journal.owed.listed(one) if r.destination == NAME]


def _checked(row: OwedRow, state: Path, archive: Archive) -> Delivered:
    kind = Ordered.stored(row.body or b"").kind
    said = State(row.state).value
    if row.file is None:
        return Delivered(kind, said, "", False, row.last_error or "not composed")
    try:
        made = pydicom.dcmread(state / row.file)
        there = archive.read(str(made.SOPInstanceUID))
    except (OSError, urllib.error.URLError) as e:
        return Delivered(kind, said, "", False, str(e))
    same = said == State.COMMITTED.value and there is not None and there == made
    name = UID(made.SOPClassUID).name.removesuffix(" Storage")
    return Delivered(kind, said, name, same, row.last_error or "")
