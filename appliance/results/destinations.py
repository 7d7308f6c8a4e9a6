"""The registry of destinations: who is told of results. Nobody else names one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from appliance.report import Report, SeriesKey
from appliance.results.mqtt import Mqtt
from appliance.results.owed import Destination, Owed, SeriesEvent, Withdrawn

DESTINATIONS: Final[tuple[Destination, ...]] = (Mqtt(),)


def of_event(
    event: SeriesEvent,
    key: SeriesKey,
    *,
    study: str,
    slices: int,
    at: datetime,
    to: Sequence[Destination] = DESTINATIONS,
) -> Iterator[Owed]:
    """What every destination is owed of a fact of a series. study: its pseudonym."""
    for one in to:
        yield from _counted(one, one.of_event(event, key, study=study, slices=slices, at=at))


def of_report(
    report: Report,
    key: SeriesKey,
    *,
    withdraws: Sequence[Withdrawn] = (),
    at: datetime,
    to: Sequence[Destination] = DESTINATIONS,
) -> Iterator[Owed]:
    """What every destination is owed of a report: first the withdrawals, then the report.

    withdraws: reports of other series that do not stand any more.
    """
    study = report.study.pseudonym
    for one in to:
        for old in withdraws:
            owed = one.of_withdrawal(old.report_id, old.by, study=study, at=at, edition=old.edition)
            yield from _counted(one, owed)
        yield from _counted(one, one.of_report(report, key, at=at))


def _counted(destination: Destination, owed: Iterator[Owed]) -> Iterator[Owed]:
    """ValueError where a destination draws a number that its row does not ask for, or none."""
    for one in owed:
        if callable(one.body) != destination.numbered:
            raise ValueError(f"{destination.name}: numbered is {destination.numbered}, {one.key}")
        yield one
