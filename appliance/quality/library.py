"""A series of a scanner -> its row in the library, and the alarms that it raises. Pure.

    empty(key, prior, at) -> Row
    counted(row, measured, at, prior) -> Counted(row, alarms)
    accepted(row, alarm, at) -> (the new row, the old one)
    acknowledged(row, at) -> Row

The record is appliance.watching.row.Row (the store reads it, and lies below this folder); the
shipped prior is appliance.quality.prior.SHIPPED.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance.watching.alarm import Alarm
from appliance.watching.quality import SeriesQuality
from appliance.watching.row import Prior, Row
from appliance.watching.scanner import Scanner


@dataclass(frozen=True, slots=True)
class Counted:
    """The row with one study more, and the alarms that this one raised (also in `row.alarms`)."""

    row: Row
    alarms: tuple[Alarm, ...]


def empty(key: Scanner, prior: Prior, at: datetime) -> Row:
    """A row that has seen nothing yet."""
    raise NotImplementedError


def counted(row: Row, measured: SeriesQuality, at: datetime, prior: Prior) -> Counted:
    """The row after one study. Whether the study counts is decided before (store/library)."""
    raise NotImplementedError


def accepted(row: Row, alarm: Alarm, at: datetime) -> tuple[Row, Row]:
    """A person says that it stays so: a row that starts with what was seen since the change, and
    the old one, ended. ValueError where the alarm is none of the row's open ones."""
    raise NotImplementedError


def acknowledged(row: Row, at: datetime) -> Row:
    """A person has looked: no alarm is open, the sums start from zero, and learning goes on."""
    raise NotImplementedError
