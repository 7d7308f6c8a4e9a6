"""What wakes `work`: `receive` says where to look, or that an association has ended; `deliver` and
a person say that something was ordered, which is to be composed.

It is a hint and no more: what is lost costs nothing, because `work` also looks by itself.
"""

from __future__ import annotations

from pathlib import Path

from appliance.report import Record
from appliance.store import bell

STAGE = "work"
"""Who hears it."""


class Hint(Record):
    """Either `study` and `series` (UIDs, not checked yet), or `association`, or `ordered`."""

    study: str | None = None
    series: str | None = None
    association: str | None = None
    ordered: bool | None = None


def send(state: Path, hint: Hint) -> None:
    """Wake `work`. Nobody there is no error: `work` looks at everything when it starts."""
    bell.ring(state, STAGE, hint.model_dump_json(exclude_none=True).encode())
