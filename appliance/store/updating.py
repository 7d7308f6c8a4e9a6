"""What everybody on this box may know of its updates, and what `publish` heard of them.

    trusted/updating.json   Updating: written by `apply`, read by `publish` and the page
    state/update.hint       Hint: written by `publish`, read and removed by `apply`

Rules
- A reader believes it for showing alone: it decides nothing.
- Where there are no slots, or nothing that can be read, nothing is said.
- Words are codes and names that this code has (appliance.update.states, why), never a text of a
  repository.
- A hint is worth what its writer is: `apply` does no more with it than apply/hinted.py says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from appliance.report import Record
from appliance.settings import Settings
from appliance.store import plain
from appliance.store.files import Disk

FILE, HINT = "updating.json", "update.hint"
MOST_BYTES = 65_536
_READABLE = 0o644


class Updating(Record):
    """How updates stand."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.updating/1"] = Field("scanside.updating/1", alias="schema")
    version: str
    """Of the appliance that runs."""
    slot: int = Field(ge=0)
    release: str | None = None
    """Path of the release in hand, or of the last one."""
    state: str | None = None
    """How far it is."""
    why: tuple[str, ...] = ()
    """Codes: why nothing more happens now."""
    hold: bool = False
    recalled: bool = False
    """Whether what runs was."""
    accept: str | None = None
    """Path of a release that waits for its intended use to be accepted."""

    @property
    def switches(self) -> bool:
        """Whether stages are being stopped and started."""
        return self.state in ("switching", "returning")

    @property
    def on_trial(self) -> bool:
        """Whether a release runs that may still go back by itself."""
        return self.state == "trial"


def write(disk: Disk, folder: Path, said: Updating) -> None:
    """Where it is other than before. StateUnusable."""
    path = folder / FILE
    data = said.model_dump_json(by_alias=True).encode()
    if not path.exists() or path.read_bytes() != data:
        disk.write(path, data)
        path.chmod(_READABLE)


def read(settings: Settings) -> Updating | None:
    """What was said last; None by rule 2."""
    if settings.update.root is None:
        return None
    try:
        with (settings.update.trusted / FILE).open("rb") as file:
            return Updating.stored(file.read(MOST_BYTES))
    except (OSError, ValidationError):
        return None


class Hint(Record):
    """What was asked for over MQTT."""

    check: bool = False
    """`update` is to look for a release."""
    hold: bool = False
    """Nothing is to be changed any more."""


def hint(disk: Disk, state: Path, said: Hint) -> None:
    """Lay it down, with what lies there already. StateUnusable."""
    before = _hint(state) or Hint()
    both = Hint(check=before.check or said.check, hold=before.hold or said.hold)
    if both != before:
        disk.write(state / HINT, both.model_dump_json().encode())


def taken(disk: Disk, state: Path) -> Hint | None:
    """Take the hint away, whatever it is; None where none can be read. StateUnusable."""
    found = _hint(state)
    disk.remove(state / HINT)
    return found


def _hint(state: Path) -> Hint | None:
    try:
        return Hint.stored(plain.read(state, HINT, most=MOST_BYTES))
    except (OSError, ValidationError):
        return None
