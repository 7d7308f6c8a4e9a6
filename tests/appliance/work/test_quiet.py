"""Quiet times of a sender: set, learned, or those of everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.report import SeriesKey
from appliance.settings import Allow, Dicom, Settings, Work
from appliance.store.journal import Journal
from appliance.work.followed import Followed
from appliance.work.quiet import QuietTimes

FAST, SLOW, UNKNOWN = SeriesKey("1.1", "1.2"), SeriesKey("2.1", "2.2"), SeriesKey("3.1", "3.2")


@pytest.fixture
def times(tmp_path: Path) -> Iterator[QuietTimes]:
    slow = Allow(ae_title="SLOW", host="10.0.0.6", quiet_s=40.0)
    settings = Settings(
        state=tmp_path,
        dicom=Dicom(allow=(Allow(ae_title="FAST", host="10.0.0.5"), slow)),
        work=Work(quiet_s=8.0, released_quiet_s=2.0, aborted_quiet_s=30.0),
    )
    with Journal.open(tmp_path) as journal:
        for key, ae in ((FAST, "FAST"), (SLOW, "SLOW")):
            association = journal.series.association_opened(
                calling_ae=ae, called_ae="SCANSIDE", host="10.0.0.5"
            )
            journal.series.arrived(association, key, calling_ae=ae, instances=1, at=1.0)
        yield QuietTimes(settings, journal)


def of(times: QuietTimes, key: SeriesKey) -> float:
    return times.of(Followed(key)).setting_s


def test_before_anything_is_learned_the_settings_count(times: QuietTimes) -> None:
    assert [of(times, key) for key in (FAST, SLOW, UNKNOWN)] == [8.0, 40.0, 8.0]
    found = times.of(Followed(FAST))
    assert (found.released_s, found.aborted_s) == (2.0, 30.0)


def test_what_is_learned_of_one_sender_is_its_own(times: QuietTimes) -> None:
    times.learn(Followed(FAST, gaps=[0.01] * 3000))
    assert of(times, FAST) < 8.0
    assert [of(times, key) for key in (SLOW, UNKNOWN)] == [40.0, 8.0]


def test_a_series_of_nobody_teaches_nothing(times: QuietTimes) -> None:
    times.learn(Followed(UNKNOWN, gaps=[0.01] * 3000))
    assert of(times, UNKNOWN) == 8.0
