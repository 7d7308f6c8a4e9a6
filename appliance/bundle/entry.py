"""What is said of one bundle on the shelf, and in which order they are listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.bundle.gates import Verdict


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle on the shelf."""

    name: str
    version: str
    digest: str
    origin: Literal["factory", "added"]
    active: bool
    previous: bool
    gate: Verdict
    """As Gates.verdict."""
    signed_by: str | None
    """Fingerprint of the key that signed it; `unsigned`; None for the factory's."""
    refused: str | None = None
    """Why it does not count: nothing loads it."""
    recalled: bool = False
    """That it was recalled is why."""


def in_order(entry: Entry) -> tuple[str, tuple[int, ...], str]:
    """By name, then version, then digest."""
    return entry.name, tuple(map(int, entry.version.split("."))), entry.digest
