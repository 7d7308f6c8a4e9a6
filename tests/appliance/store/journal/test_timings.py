"""How long reports took: while their series are here, and after they are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.report import Report, SeriesKey, Stage, Times
from appliance.results import destinations, message, mqtt
from appliance.store.journal import Journal
from appliance.store.journal.timings import KEPT_S
from appliance.store.rows import Timing
from rigs.reports import NAMING

Timed = Callable[..., Report]


class Clock:
    """Of the journal, as the test sets it."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    with Journal.open(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def timed(make_report: Callable[..., Report], noon: datetime) -> Timed:
    """A report whose last slice came at noon."""

    def make(**changed: Any) -> Report:
        times = Times(last_slice=noon)
        return make_report(**changed).model_copy(update={"times": times})

    return make


@pytest.fixture
def happen(
    journal: Journal, clock: Clock, key: SeriesKey, noon: datetime, timed: Timed
) -> Callable[..., None]:
    """A series from CT1: preliminary 1 s after its last slice, complete after 2 s, final after 3;
    the broker takes each half a second later, but for the last where `waits`."""

    def at(seconds: float) -> None:
        clock.at = (noon + timedelta(seconds=seconds)).timestamp()

    def take() -> None:
        clock.at += 0.5
        journal.owed.ack(mqtt.MQTT, [row.key for row in journal.owed.waiting(mqtt.MQTT, 100)])

    def commit(report: Report) -> None:
        owed = destinations.of_report(report, key, naming=NAMING, at=noon, to=[mqtt.Mqtt()])
        journal.commit_report(report, key, owed=owed, series_state="analysed", instances=9)

    def happened(*, waits: bool = False) -> None:
        at(0)
        association = journal.series.association_opened(
            calling_ae="CT1", called_ae="SCANSIDE", host="10.0.0.5"
        )
        journal.series.arrived(association, key, calling_ae="CT1", instances=9, at=clock.at)
        at(1)
        commit(timed(stage=Stage.PRELIMINARY))
        take()
        at(2)
        complete = message.of_series("complete", key, naming=NAMING, slices=9, at=noon)
        journal.announce(key, [mqtt.enveloped(complete, key)], pseudonym=NAMING.study(key.study))
        at(3)
        commit(timed())
        if not waits:
            take()

    return happened


def forget(journal: Journal, key: SeriesKey) -> bool:
    series = journal.series.get(key)
    assert series is not None
    return journal.forget(series)


def test_the_times_of_a_series_outlive_it_without_a_word_of_whose_they_were(
    journal: Journal, key: SeriesKey, happen: Callable[..., None], noon: datetime
) -> None:
    happen()
    expected = Timing(
        at=(noon + timedelta(seconds=1)).timestamp(),
        scanner="CT1",
        status="analysed",
        first_s=1.0,
        first_told_s=1.5,
        quiet_s=2.0,
        final_s=3.0,
        final_told_s=3.5,
    )
    assert journal.timings.here(100) == [expected]
    assert journal.timings.gone() == []
    assert forget(journal, key)
    assert journal.timings.here(100) == []
    assert journal.timings.gone() == [expected]
    with journal._db.look() as db:
        (row,) = db.execute("SELECT * FROM timings").fetchall()
    assert not {str(value) for value in row} & {key.study, key.series, NAMING.study(key.study)}


def test_a_series_that_changed_meanwhile_stays_and_so_do_its_times(
    journal: Journal, key: SeriesKey, happen: Callable[..., None], clock: Clock
) -> None:
    happen()
    series = journal.series.get(key)
    assert series is not None
    clock.at += 1
    journal.series.set(key, "open")
    assert not journal.forget(series)
    assert journal.timings.gone() == []


def test_what_the_broker_has_not_taken_is_unknown_and_not_zero(
    journal: Journal, happen: Callable[..., None]
) -> None:
    happen(waits=True)
    (timing,) = journal.timings.here(100)
    assert timing.final_told_s is None
    assert timing.first_told_s == 1.5


def test_a_report_without_a_last_slice_or_with_a_clock_that_ran_back_has_no_time(
    journal: Journal,
    key: SeriesKey,
    timed: Timed,
    make_report: Callable[..., Report],
    noon: datetime,
    clock: Clock,
) -> None:
    clock.at = (noon - timedelta(hours=1)).timestamp()
    journal.commit_report(timed(), key, owed=(), series_state="analysed", instances=9)
    other = make_report(images="d" * 64, revision=2)
    journal.commit_report(other, key, owed=(), series_state="analysed", instances=9)
    assert journal.timings.here(100) == []
    assert forget(journal, key)
    assert journal.timings.gone() == []


def test_the_ledger_forgets_after_years(
    journal: Journal, key: SeriesKey, happen: Callable[..., None], clock: Clock
) -> None:
    happen()
    assert forget(journal, key)
    clock.at += KEPT_S - 10
    journal.purge(0.0)
    assert len(journal.timings.gone()) == 1
    clock.at += 20
    journal.purge(float("-inf"))  # nothing is old: then nothing goes
    assert len(journal.timings.gone()) == 1
    journal.purge(0.0)
    assert journal.timings.gone() == []
