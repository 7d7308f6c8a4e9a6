"""A row of the library of scanners: what is usual on one of them, and what has changed.

Rules.
1. Figures of images and of outputs, counts, dates and the key: nothing that names a patient, a
   study or a device.
2. Whatever is kept is bounded: RECENT studies, the first images of a detector and one window of
   them, PAST alarms.
3. Order is the order in which studies were counted. A date is kept and told, never compared: the
   clock of a box may go back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from appliance.report import Record
from appliance.watching.alarm import Alarm, Statistic
from appliance.watching.quality import Outputs, RadiographQuality, VolumeQuality
from appliance.watching.scanner import Scanner

SCHEMA: Literal["scanside.row/1"] = "scanside.row/1"
RECENT: Final = 50
"""So many studies are kept as they were measured, the last ones."""
PAST: Final = 8
State = Literal["learning", "fixed", "frozen"]


class Side(Record):
    """A sum over series of what speaks for a change to one side (Page, Biometrika 1954)."""

    sum: float = Field(default=0.0, ge=0)
    since: datetime | None = None
    """The first series since it was last zero; None: it is zero."""
    studies: int = Field(default=0, ge=0)
    """How many since then."""
    away: float = 0.0
    """Of these, the sum of how many spreads each is away."""


class Watched(Record):
    """One statistic: what the learning time says is usual, and both sums since."""

    n: int = Field(default=0, ge=0)
    """How many values were learnt; what turned out to be odd is not among them."""
    mean: float = 0.0
    """Of the transformed statistic (quality/drift.py); of a count events, see `weight`."""
    m2: float = Field(default=0.0, ge=0)
    """Sum of squares about the mean."""
    first: tuple[float, ...] = ()
    """The values of the learning time while it lasts, for `mean` and `m2` are made at its end, when
    it shows which were odd. Empty for a count."""
    weight: float = Field(default=0.0, ge=0)
    """Of a count: out of how many the events of the learning time are; `mean` is their share."""
    up: Side = Side()
    down: Side = Side()
    missing: int = Field(default=0, ge=0)
    """How many of the last volumes, without a break, did not have it."""


class Window(Record):
    """One statistic of radiographs: the first images, and those since the last whole window."""

    reference: tuple[float, ...] = ()
    current: tuple[float, ...] = ()
    since: datetime | None = None
    """Of the first image of `current`."""
    studies: int = Field(default=0, ge=0)
    """Whose images are in `current`."""


class Seen(Record):
    """One study, as it was measured."""

    at: datetime
    measured: tuple[Annotated[VolumeQuality | RadiographQuality, Field(discriminator="of")], ...]
    outputs: Outputs


class Prior(Record):
    """What is known of scanners before a series of this one is seen: spreads, never middles."""

    spreads: dict[Statistic, float]
    """SD of the transformed statistic between the studies of one scanner."""
    weight: float = Field(default=12.0, gt=0)
    """In degrees of freedom."""


class Row(Record):
    """One scanner and protocol."""

    schema_: Literal["scanside.row/1"] = Field(default=SCHEMA, alias="schema")
    key: Scanner
    state: State = "learning"
    """`frozen`: an alarm is open, and nothing is learnt."""
    n: int = Field(default=0, ge=0)
    """How many studies were counted."""
    learnt: int = Field(default=0, ge=0)
    """How many of them were learnt from; of which nothing was measured are not among them."""
    settled: datetime | None = None
    """When the learning time ended; None: it lasts."""
    since: datetime
    last: datetime | None = None
    """Of the study that was counted last."""
    until: datetime | None = None
    """When a person took a change for the new usual: another row stands for the scanner since."""
    acknowledged: datetime | None = None
    """When a person last acknowledged."""
    contrast: tuple[int, int] = (0, 0)
    """Of the studies learnt from: with contrast medium, and those of which it is known."""
    watched: dict[Statistic, Watched] = Field(default_factory=dict)
    windows: dict[Statistic, Window] = Field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    """The open ones."""
    past: tuple[Alarm, ...] = ()
    """Those that a person acknowledged, the last ones."""
    changes: tuple[datetime, ...] = ()
    """Since when, as said by the alarms that a person closed last: acknowledged them, or accepted
    one of them, with which this row began."""
    recent: tuple[Seen, ...] = ()
