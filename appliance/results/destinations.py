"""The registry of destinations: who is told of results. Nobody else names one."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from appliance.comparison import Comparison
from appliance.naming import Naming
from appliance.report import Report, SeriesKey
from appliance.results.mqtt import Mqtt
from appliance.results.owed import Destination, Owed, SeriesEvent, Withdrawn
from appliance.results.pacs import Archive, Pacs
from appliance.room.check import RoomCheck
from appliance.watching.qa import QaRecord

DESTINATIONS: Final[tuple[Destination, ...]] = (Mqtt(),)
"""Those that every site has."""


def of(archives: Iterable[Archive]) -> tuple[Destination, ...]:
    """All destinations of a site. archives: its `[[deliver]]`."""
    return (
        *DESTINATIONS,
        *(
            Pacs(one.name, one.profile, one.when, rejection_note=one.rejection_note)
            for one in archives
        ),
    )


def unnamed(owed_to: Iterable[str], archives: Iterable[Archive]) -> tuple[str, ...]:
    """Of those who are owed something, the archives that no `[[deliver]]` names any more. archives:
    those of the settings."""
    known = {one.name for one in of(archives)}
    return tuple(sorted(name for name in owed_to if name not in known))


def composed_for(owed_to: Iterable[str], archives: Iterable[Archive]) -> tuple[str, ...]:
    """The archives whose orders are composed: those of the settings, and those that no line names
    any more and that are owed something. Images must not wait for who is gone."""
    named = tuple(archives)
    return (*(one.name for one in named), *unnamed(owed_to, named))


def archives(destinations: Iterable[Destination]) -> tuple[Pacs, ...]:
    """Those of them that are archives."""
    return tuple(one for one in destinations if isinstance(one, Pacs))


def of_event(
    event: SeriesEvent,
    key: SeriesKey,
    *,
    naming: Naming,
    slices: int,
    at: datetime,
    to: Sequence[Destination] = DESTINATIONS,
) -> Iterator[Owed]:
    """What every destination is owed of a fact of a series."""
    for one in to:
        yield from _counted(one, one.of_event(event, key, naming=naming, slices=slices, at=at))


def of_report(
    report: Report,
    key: SeriesKey,
    *,
    naming: Naming,
    withdraws: Sequence[Withdrawn] = (),
    at: datetime,
    completes: Report | None = None,
    to: Sequence[Destination] = DESTINATIONS,
) -> Iterator[Owed]:
    """What every destination is owed of a report: first the withdrawals, then the report.

    withdraws: reports that do not stand any more; the one that it supersedes may be among them, in
    the edition that stood (else the first), and is withdrawn once.
    completes: an earlier form of it.
    """
    stood = {old.report_id: old.edition for old in withdraws}
    edition = stood.get(report.supersedes, 1) if report.supersedes else 1
    for one in to:
        for old in withdraws:
            if old.report_id == report.supersedes:
                continue
            owed = one.of_withdrawal(
                old.report_id, old.by, naming=naming, at=at, edition=old.edition
            )
            yield from _counted(one, owed)
        owed = one.of_report(
            report, key, naming=naming, at=at, completes=completes, superseded=edition
        )
        yield from _counted(one, owed)


def of_check(
    check: RoomCheck,
    report: Report,
    key: SeriesKey,
    *,
    naming: Naming,
    at: datetime,
    to: Sequence[Destination] = DESTINATIONS,
) -> Iterator[Owed]:
    """What is owed of the in-room check of a report, after all that is owed of the report itself.
    Archives are told nothing of it: it is for who stands at the scanner."""
    for one in to:
        if isinstance(one, Mqtt):
            owed = one.of_check(check, report, key, naming=naming, at=at)
            yield from _counted(one, owed)


def of_qa(
    record: QaRecord,
    key: SeriesKey,
    *,
    naming: Naming,
    at: datetime,
    to: Sequence[Destination] = DESTINATIONS,
) -> Iterator[Owed]:
    """What is owed of a water phantom. Archives are told nothing of it: it is of no patient."""
    for one in to:
        if isinstance(one, Mqtt):
            yield from _counted(one, one.of_qa(record, key, naming=naming, at=at))


def of_comparison(
    comparison: Comparison,
    key: SeriesKey,
    *,
    withdrawn: Sequence[uuid.UUID] = (),
    naming: Naming,
    at: datetime,
    edition: int = 1,
    to: Sequence[Destination] = DESTINATIONS,
) -> Iterator[Owed]:
    """What is owed of a comparison with an earlier exam. withdrawn: comparisons that count no more
    because of it. edition: of the report."""
    for one in to:
        if isinstance(one, Pacs):
            further = one.of_comparison(comparison, key, naming=naming, edition=edition)
            yield from _counted(one, further)
        if isinstance(one, Mqtt):
            owed = one.of_comparison(comparison, key, withdrawn=withdrawn, naming=naming, at=at)
            yield from _counted(one, owed)


def _counted(destination: Destination, owed: Iterator[Owed]) -> Iterator[Owed]:
    """ValueError where a destination draws a number that its row does not ask for, or none."""
    for one in owed:
        if callable(one.body) != destination.numbered:
            raise ValueError(f"{destination.name}: numbered is {destination.numbered}, {one.key}")
        yield one
