"""What of the library of scanners may leave the device: figures and codes of closed lists.

A row is named by 16 digits of a keyed hash. Its maker, model and kernel stay here: they are texts
of a header.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from appliance.report import Digest, Record
from appliance.watching.alarm import Cause, Statistic

RowId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""A row of the library, or a scanner."""
_SHORT: Final = 16


def short(digest: str) -> str:
    """What a person calls a tuning that has no row: as many digits of its digest as a row has."""
    return digest[:_SHORT]


class Spread(Record):
    """How the studies of a row lie, in the unit of the statistic (watching/quality.py)."""

    p10: float
    p50: float
    p90: float


class ToldAlarm(Record):
    """An alarm that is open."""

    statistic: Statistic
    cause: Cause


class ToldRow(Record):
    """One scanner and protocol."""

    row: RowId
    n: int = Field(ge=0, description="studies that were counted")
    spread: dict[Statistic, Spread] = Field(
        default_factory=dict, description="of at least 20 studies; else it is not there"
    )
    alarms: tuple[ToldAlarm, ...] = ()


class Told(Record):
    """Of every row of today, those with an alarm first, then the one that was counted last."""

    rows: tuple[ToldRow, ...] = ()
    tunings: tuple[Digest, ...] = ()
    """Those in force whose scanner has no row of today. `apply` reads them; nobody sends them."""
