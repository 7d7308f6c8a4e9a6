"""The tables of the shelf on disk, under state/bundles.

    installed.json    {digest: {name, version, signed_by}}: what `add` admitted
    active.json       {name: {active, previous}}: digests
    recalled.json     {digest: {reason}}: what never runs again, on the shelf or not

Rules
- A table that is missing is empty. One that does not hold what it should, or that the disk does not
  give, is damaged: reading says so and goes on without it; who then writes it sets the damaged file
  aside first, under the name NAME.damaged-N, and nobody ever removes that. Only a user who may not
  read it stops.
- No symbolic link is followed.
- A later release may add to a row: that is left out, and lost where this release writes the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from appliance.bundle.manifest import Name, Version
from appliance.errors import StateUnusable
from appliance.report import Digest, Record
from appliance.store import plain
from appliance.store.files import Disk

FOLDER = "bundles"
UNSIGNED: Literal["unsigned"] = "unsigned"
RELEASE: Literal["release"] = "release"
"""A verified release admitted it, by its digest (appliance/apply/shelving.py)."""


class Installed(Record):
    """What `add` admitted. signed_by: the fingerprint of a key, `unsigned`, or `release`."""

    name: Name
    version: Version
    signed_by: Digest | Literal["unsigned", "release"]


class Choice(Record):
    active: Digest
    previous: Digest | None = None


class InstalledTable(RootModel[dict[Digest, Installed]]):
    """installed.json."""


class ChoiceTable(RootModel[dict[Name, Choice]]):
    """active.json."""


class Recalled(Record):
    """Why a bundle was recalled."""

    reason: str


class RecallTable(RootModel[dict[Digest, Recalled]]):
    """recalled.json."""


FILES: Mapping[type[BaseModel], str] = MappingProxyType(
    {InstalledTable: "installed.json", ChoiceTable: "active.json", RecallTable: "recalled.json"}
)
Table = TypeVar("Table", bound=BaseModel)


class Tables:
    """The three files, read anew at each call."""

    def __init__(self, state: Path, disk: Disk) -> None:
        self._state = state
        self._folder = state / FOLDER
        self._disk = disk

    def read(self, model: type[Table]) -> Table | None:
        """The table, or None where it is damaged. StateUnusable where this user may not read it."""
        try:
            data = plain.read(self._state, FOLDER, FILES[model])
            return model.model_validate_json(data, extra="ignore")
        except FileNotFoundError:
            return model.model_validate({})
        except PermissionError as e:
            raise StateUnusable(f"{self._folder / FILES[model]}: {e.strerror}") from e
        except (OSError, ValidationError):
            return None

    def write(self, table: BaseModel) -> str | None:
        """Make the file hold the table; the name under which a damaged one was set aside."""
        self._disk.make_folder(plain.real_folder(self._folder))
        path = self._folder / FILES[type(table)]
        aside = self._set_aside(path) if self.read(type(table)) is None else None
        self._disk.write(path, table.model_dump_json(indent=1).encode() + b"\n")
        return aside

    def _set_aside(self, path: Path) -> str:
        number = 1
        while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        self._disk.move(path, kept)
        return kept.name
