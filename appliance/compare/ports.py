"""What the child that compares is given: who makes an entry, who keeps entries, who compares.

The child itself knows rows, order, files and faults, and nothing of images.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.comparison import Comparison, Which
from appliance.prior.entry import Entry, Facts
from appliance.prior.patient import NotKept
from appliance.reasons import Code
from appliance.records import Grid
from appliance.report import Report
from appliance.store.rows import ToCompare


@dataclass(frozen=True, slots=True)
class Words:
    """What a comparison says that no entry has."""

    report: Report
    """Of today, as it stands."""
    which: tuple[Which, ...] = ()
    """Of the exams that are kept, the earlier one."""
    tracked: Mapping[int, str | None] = field(default_factory=dict)
    """Finding of the earlier report -> tracking UID of its first sighting, where that is older."""
    committed: datetime | None = None


class Cubed(Protocol):
    """What is shown of one place in one exam."""

    @property
    def hu(self) -> NDArray[np.int16]:
        """[z, y, x]"""
        ...

    @property
    def grid(self) -> Grid: ...


@dataclass(frozen=True, slots=True)
class Made:
    """A comparison, and what is kept beside it."""

    comparison: Comparison
    prior: Entry | None = None
    cubes: Sequence[tuple[Cubed, Cubed]] = ()
    """Of each of `Comparison.findings`: then, now."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry without its arrays, of which a person may have many."""

    report_id: uuid.UUID
    facts: Facts
    digest: str


@dataclass(frozen=True, slots=True)
class OfPerson:
    """What is kept of one person."""

    listed: tuple[Listed, ...] = ()
    unreadable: int = 0
    """Entries that are damaged, or of another release."""


class Exams(Protocol):
    """The entries that are kept (`kept`)."""

    def keep(self, entry: Entry) -> None:
        """Durable when this returns; what was kept of the same report is replaced."""
        ...

    def of_report(self, report_id: uuid.UUID) -> Entry | None:
        """None where nothing is kept, or where it cannot be read. It looks at all that is kept."""
        ...

    def of_person(self, key: str) -> OfPerson:
        """All that is kept of one person."""
        ...

    def remove(self, report_id: uuid.UUID) -> None:
        """Nothing is kept of this report any more. Not there is fine."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Nobody takes an entry away meanwhile. Nothing of this may be changed inside."""
        ...

    def holds(self, entry: Entry) -> bool:
        """Whether it is still kept."""
        ...


class Making(Protocol):
    """The entry of an exam whose images are here (`gather`)."""

    def __call__(self, row: ToCompare, report: Report, /) -> Entry | NotKept: ...


class Comparing(Protocol):
    """The line of comparisons (lines/compare.py) with its bundles."""

    def pair(self, prior: Entry, current: Entry, words: Words) -> Made:
        """Two exams of one key."""
        ...

    def nothing(self, code: Code, text: str, current: Entry | None, words: Words) -> Made:
        """Why there is no comparison at all."""
        ...
