"""An open journal, and what a sender and `work` write into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.report import Report, SeriesKey
from appliance.results import destinations, message, mqtt
from appliance.results.owed import Owed
from appliance.store.journal import Journal
from rigs import later
from rigs.reports import NAMING

Arrive = Callable[..., str]
Commit = Callable[..., None]
Received = Callable[..., Owed]


@pytest.fixture(params=["its own", "a later"])
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Journal]:
    """An open journal, of the schema of this release and of a later one: all that is tested of a
    part holds on both."""
    if request.param == "a later":
        Journal.open(tmp_path).close()
        later.grow(tmp_path)
    with Journal.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def key() -> SeriesKey:
    return SeriesKey("1.2", "1.2.3")


@pytest.fixture
def received(key: SeriesKey, noon: datetime) -> Received:
    """slices -> something that is owed to the broker, of no series."""

    def make(slices: int = 1) -> Owed:
        return mqtt.enveloped(
            message.of_series("received", key, naming=NAMING, slices=slices, at=noon)
        )

    return make


@pytest.fixture
def arrive(journal: Journal, key: SeriesKey) -> Arrive:
    """instances, when, association -> the association's id."""

    def arrived(
        instances: int, at: float, association: str | None = None, of: SeriesKey = key
    ) -> str:
        association = association or journal.series.association_opened(
            calling_ae="CT1", called_ae="SCANSIDE", host="10.0.0.5"
        )
        journal.series.arrived(association, of, calling_ae="CT1", instances=instances, at=at)
        return association

    return arrived


@pytest.fixture
def commit(journal: Journal, key: SeriesKey, noon: datetime) -> Commit:
    """A report, as `work` commits it where the broker is told alone."""

    def committed(report: Report, of: SeriesKey = key, **more: Any) -> None:
        owed = destinations.of_report(report, of, naming=NAMING, at=noon, to=[mqtt.Mqtt()])
        journal.commit_report(report, of, owed=owed, series_state="analysed", **more)

    return committed
