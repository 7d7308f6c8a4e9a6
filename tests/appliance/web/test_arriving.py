"""How many images of a series are here while it arrives."""

from __future__ import annotations

from pathlib import Path

from appliance.report import SeriesKey
from appliance.store.rows import Received, Series
from appliance.store.spool import Spool
from appliance.web import arriving
from rigs.ward import Ward


def put(state: Path, key: SeriesKey, images: int) -> None:
    spool = Spool(state)
    for number in range(images):
        temp = spool.incoming_path()
        temp.write_bytes(b"data")
        spool.store(temp, key.study, key.series, f"{key.series}.{number}", lambda *_: False)


def test_the_files_are_counted_of_what_arrives_and_of_nothing_else(tmp_path: Path) -> None:
    with Ward(tmp_path) as at_work:
        key = at_work.arrive(minutes_ago=0, images=1)
        done = at_work.arrive(minutes_ago=5)
        at_work.report(done)
        put(tmp_path, key, 7)
        assert list(arriving.folders(at_work.journal, tmp_path)) == [key]
        found = arriving.counts(tmp_path, [key])
        assert found == {key: 7}
        series = arriving.counted(at_work.journal.shown.series([key.study, done.study]), found)
    assert {one.series.key: one.images for one in series} == {key: 7, done: 304}


def test_a_series_whose_folder_is_not_there_has_what_the_journal_says(tmp_path: Path) -> None:
    key = SeriesKey("1.2", "1.2.3")
    row = Series("1.2", "1.2.3", "open", "CT1", 1.0, 2.0, None, 0, 3.0)
    found = arriving.counts(tmp_path, [key])
    assert found == {key: 0}
    assert arriving.counted([Received(row, 5)], found) == [Received(row, 5)]


def test_of_very_many_only_the_newest_are_counted(tmp_path: Path) -> None:
    with Ward(tmp_path) as at_work:
        keys = [at_work.arrive(minutes_ago=30 - n) for n in range(arriving.MOST + 3)]
        assert list(arriving.folders(at_work.journal, tmp_path)) == keys[3:]
