"""What `apply` tells `update`, and what `update` tells `apply`: two files, and no more.

    trusted/facts.json     Told: written by `apply`, readable for everybody
    downloads/offered      Found: written by `update` when a fetch is whole; never believed

Rules.
1. `update` decides nothing that counts. It is told the facts so that it fetches what `apply` will
   ask for; whatever it fetches is verified once more by `apply`.
2. `asked` counts how often a person or `apply` asked; one that has grown is a wish to look now.
3. `offered` only says that something may have changed. Whoever forges it wakes `apply` for nothing.
   Its words are shown on terminals: what would move a cursor there is taken out of them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError

from appliance.errors import PeerAway, ReleaseRefused
from appliance.report import Digest, Record
from appliance.store.files import Disk
from appliance.update.plan import Facts
from appliance.update.source import Folder

FACTS = "facts.json"
OFFERED = "offered"
MOST_BYTES = 10_000
MOST_WORDS = 1_000
_READABLE = 0o644


def printable(text: str) -> str:
    """Rule 3: one line of at most MOST_WORDS characters, all of which a terminal only shows."""
    return "".join(c if c.isprintable() else "?" for c in text[:MOST_WORDS])


Words = Annotated[str, AfterValidator(printable)]


class Told(Record):
    """What `update` may know of this box."""

    asked: int = Field(default=0, ge=0)
    url: str | None = None
    """A repository that a person named for this once; None for that of the settings."""
    built: AwareDatetime
    """When the appliance that runs was made (appliance.update.clock)."""
    facts: Facts
    slot_mb: float = Field(default=0, ge=0)
    """What the slot that runs takes on the disk, in 10^6 bytes."""
    have: tuple[Digest, ...] = ()
    """Plain bytes that are on this box already, by their digest."""


class Found(Record):
    """What the last look of `update` came to. Never believed."""

    asked: int = Field(ge=0)
    at: AwareDatetime
    release: str | None = None
    """Path of the release of which all is here."""
    code: Words = ""
    text: Words = ""
    """Why there is none, or what went wrong; empty where nothing did."""


def tell(disk: Disk, folder: Path, told: Told) -> None:
    """Write facts.json. StateUnusable."""
    path = folder / FACTS
    disk.write(path, told.model_dump_json(by_alias=True).encode())
    path.chmod(_READABLE)  # a cut before this leaves it closed until `apply` tells the next time


def told(folder: Path) -> Told | None:
    """None where `apply` has said nothing that can be read, yet."""
    try:
        return Told.stored((folder / FACTS).read_bytes())
    except (OSError, ValidationError):
        return None


def offer(disk: Disk, folder: Path, found: Found) -> None:
    """Write `offered`, readable for `apply`. StateUnusable."""
    disk.write(folder / OFFERED, found.model_dump_json().encode())


def offered(folder: Path) -> Found | None:
    """What `update` says; None where it said nothing that can be read (rule 3)."""
    data = b""
    with contextlib.suppress(ReleaseRefused, PeerAway, ValidationError):
        for piece in Folder(folder).read(OFFERED):  # a regular file, so nobody waits for a pipe
            data += piece
            if len(data) > MOST_BYTES:
                return None
        return Found.stored(data)
    return None
