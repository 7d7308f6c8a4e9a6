"""What the fleet wishes for, on `update/desired`: a release of the own channel, or a hold. Pure.

Rules
- Nothing here is trusted. A release only makes `update` look sooner: what the box takes is decided
  by signatures and by its own plan. A hold only comes sooner; letting go is for a person.
- It is read only where `[update] desired` is true. It may be retained: as long as a hold stands
  there, it holds again at each connection.
- At most LIMIT_BYTES of JSON; an empty payload is a wish that was taken back, and does nothing.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from appliance.report import Record
from appliance.store.updating import Hint

TOPIC = "update/desired"
LIMIT_BYTES = 4096
RATION = (60, 60.0)
"""So many are read in so many seconds."""


class Desired(Record):
    """The payload."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})

    schema_: Literal["scanside.desired/1"] = Field("scanside.desired/1", alias="schema")
    release: str | None = Field(
        default=None, pattern=r"^[a-z0-9-]{1,40}/[1-9][0-9]{0,8}\.json$", max_length=80
    )
    """Its path in the repository, such as stable/7.json."""
    hold: bool = False


def hint(payload: bytes, channel: str) -> Hint | str | None:
    """What is laid down for `apply`; why it is refused, in words of ours; None for nothing."""
    if not payload:
        return None
    if len(payload) > LIMIT_BYTES:
        return f"more than {LIMIT_BYTES} bytes"
    try:
        said = Desired.model_validate_json(payload)
    except ValidationError:
        return "no wish of scanside.desired/1"
    if said.release is not None and said.release.partition("/")[0] != channel:
        return f"this box takes releases of {channel}"
    if said.release is None and not said.hold:
        return None
    return Hint(check=said.release is not None, hold=said.hold)
