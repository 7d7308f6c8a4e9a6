"""What is known of how well findings are found on a scanner, without any label.

Rules.
1. Shapes of nodules that radiologists outlined are put into a series that was analysed already, in
   memory alone (appliance/probe). What is kept is how many of these implants were found. They are
   called implants here and everywhere: no word of a nodule, a patient or a lesion is said of them.
2. A row is of one scanner (its key) and holds a figure a series: from these alone every other
   figure is made (quality/probed.py), for the bundle and the accepted tuning that are asked about.
3. A series is named by the site key (naming.Naming.series), so that it is probed once.
4. Nothing of this goes into a report, a message or an object for an archive.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from appliance.report import Digest, Record
from appliance.watching.proposal import Proposal
from appliance.watching.scanner import Scanner

SCHEMA: Literal["scanside.probe/1"] = "scanside.probe/1"
SIZES_MM = ((4.0, 6.0), (6.0, 8.0), (8.0, None))
"""Classes of size, from and below; the last one has no end."""


class Tuned(Record):
    """What was found of the same implants with one candidate tuning."""

    soften_mm: float = Field(gt=0)
    found: tuple[bool, ...]
    """In the order of the implants."""
    beside: int = Field(ge=0)
    """Findings of the altered series that are no implant."""


class ProbedSeries(Record):
    """One series with implants."""

    series: uuid.UUID
    bundle: Digest
    tuning: Digest | None = None
    """The accepted tuning with which it was analysed (watching/tuning.py)."""
    at: datetime
    sizes_mm: tuple[float, ...]
    """Diameter of each implant: of the sphere of its volume."""
    found: tuple[bool, ...]
    beside: int = Field(ge=0)
    """Findings of the altered series that are no implant."""
    extra: int = Field(ge=0)
    """Of these, those that are no finding of the untouched series either: the insertion caused
    them."""
    tuned: tuple[Tuned, ...] = ()
    """With each candidate; none where the series is part of no trial."""
    change: datetime | None = None
    """The change of the scanner after which it came: since when, as an alarm of its row in the
    library says (watching/alarm.py). None: before any."""
    trial: int | None = Field(default=None, ge=0)
    """Of which trial of its bundle, tuning and change on this scanner, from 0."""

    @model_validator(mode="after")
    def _of_the_same_implants(self) -> ProbedSeries:
        counts = {len(self.sizes_mm), len(self.found), *(len(one.found) for one in self.tuned)}
        if len(counts) != 1:
            raise ValueError("each implant has a size, and was found or not")
        if self.extra > self.beside:
            raise ValueError("what the insertion caused is no implant")
        if (self.trial is None) != (not self.tuned):
            raise ValueError("a series of a trial has its candidates, and no other has")
        return self


class Trial(Record):
    """A trial of candidate tunings that ended."""

    bundle: Digest
    tuning: Digest | None = None
    change: datetime | None = None
    at: datetime
    series: int = Field(ge=1)
    proposal: Proposal | None = None
    """None: none of them is better, so that nothing is proposed."""


class Probed(Record):
    """All that is kept of one scanner."""

    schema_: Literal["scanside.probe/1"] = Field(default=SCHEMA, alias="schema")
    scanner: Scanner
    series: tuple[ProbedSeries, ...] = ()
    """In the order in which they were probed, the newest last."""
    trials: tuple[Trial, ...] = ()
    """The newest last."""

    @property
    def proposal(self) -> Proposal | None:
        """What the newest trial proposes."""
        return self.trials[-1].proposal if self.trials else None


class Share(Record):
    """A share of implants that were found, with its 95 % interval over series."""

    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    implants: int = Field(ge=1)


class OfSize(Record):
    """The share of one class of size."""

    from_mm: float
    below_mm: float | None
    share: Share


class Performance(Record):
    """What the implants say of one scanner and bundle."""

    bundle: Digest
    tuning: Digest | None = None
    series: int = Field(ge=1)
    sensitivity: Share
    by_size: tuple[OfSize, ...]
    """Of the classes of which an implant was put in."""
    extra_per_series: float = Field(ge=0)
    """Findings that the insertion caused."""
    since: datetime
    until: datetime
