"""What is owed to whom: one thing for one destination, and what a destination has to say.

A destination is somebody outside the device who is told of results, such as the MQTT broker. The
journal keeps what is owed to it until it was taken (`store/delivery.py`). The journal knows names,
keys and bytes only; what the bytes mean is the destination's own affair.

To add one: a module here with its rules, a row in `destinations.py`, and a stage that delivers.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal, Protocol

from appliance.naming import Naming
from appliance.report import Report, SeriesKey

SeriesEvent = Literal["received", "complete"]
"""What is said of a series before there is a report."""


@dataclass(frozen=True, slots=True)
class File:
    """A body that is too large for the journal: a file, durable before it is owed."""

    path: PurePosixPath
    """Relative to the state folder. It lies where it is deleted with its series."""


Body = bytes | Callable[[int], bytes] | File
"""The bytes; or what makes them of the number `seq` that is drawn in the same transaction."""


@dataclass(frozen=True, slots=True)
class Owed:
    """One thing that one destination is to have."""

    destination: str
    key: str
    """Unique within its destination: what has a known key is owed already, and is not added."""
    series: SeriesKey | None
    """Whose deletion waits until this is delivered; None: nobody's."""
    body: Body


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A report that does not count any more."""

    report_id: uuid.UUID
    edition: int
    """Which edition of it is withdrawn: it may be said again, and withdrawn again."""
    by: SeriesKey
    """The series that stands in its place."""


class Destination(Protocol):
    """One row of the registry: how what happened becomes what is owed. Pure; no method waits."""

    @property
    def name(self) -> str:
        """Stable: it stands in the journal."""
        ...

    @property
    def stage(self) -> str:
        """The stage that delivers it (`scanside STAGE`), woken when something is owed."""
        ...

    @property
    def numbered(self) -> bool:
        """Whether each body draws a `seq`. Where it draws none, it makes no gap in the count."""
        ...

    def of_event(
        self, event: SeriesEvent, key: SeriesKey, *, naming: Naming, slices: int, at: datetime
    ) -> Iterator[Owed]:
        """A fact of a series."""
        ...

    def of_report(
        self,
        report: Report,
        key: SeriesKey,
        *,
        naming: Naming,
        at: datetime,
        completes: Report | None = None,
        superseded: int = 1,
    ) -> Iterator[Owed]:
        """All of one report, in order; with the withdrawal of the one that it supersedes.

        completes: an earlier form of it, its preliminary one or the edition before; what was owed
        with that one is not owed again.
        superseded: edition of the report that it supersedes.
        """
        ...

    def of_withdrawal(
        self,
        report_id: uuid.UUID,
        key: SeriesKey,
        *,
        naming: Naming,
        at: datetime,
        edition: int = 1,
    ) -> Iterator[Owed]:
        """This edition of a report does not count any more. key: of the series that replaces it."""
        ...

    def described(self, key: str, body: bytes | None) -> str:
        """What one thing is, for a person's list; never an error, whatever the body is."""
        ...
