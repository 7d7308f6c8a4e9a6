"""What an object was composed of stays as it was first told."""

from __future__ import annotations

import uuid
from pathlib import Path

from appliance.report import SeriesKey
from appliance.store.journal import Journal
from appliance.store.journal.told import KEPT_S

REPORT = uuid.UUID(int=7)


def test_what_was_told_first_is_told_for_ever_also_after_its_series_is_deleted(
    journal: Journal, key: SeriesKey
) -> None:
    journal.series.set(key, "analysed", instances=1)
    assert journal.told.keep(REPORT, "final", 1, "at noon") == "at noon"
    assert journal.told.keep(REPORT, "final", 1, "later") == "at noon"
    assert journal.told.keep(REPORT, "final", 2, "again") == "again"
    assert journal.told.keep(REPORT, "withdrawn", 1, "not any more") == "not any more"
    assert journal.forget(journal.kept()[0].series)
    assert journal.told.keep(REPORT, "final", 1, "much later") == "at noon"


def test_what_one_archive_got_is_kept_apart_from_what_was_told_to_all(journal: Journal) -> None:
    journal.told.keep(REPORT, "final", 1, "to all")
    journal.told.keep(REPORT, "final at pacs", 1, "to one")
    journal.told.keep(REPORT, "withdrawn", 1, "not any more")
    assert journal.told.all(REPORT) == ["to all", "not any more"]
    assert journal.told.kept(REPORT, "final at pacs", 1) == "to one"
    assert journal.told.kept(REPORT, "final at other", 1) is None


def test_what_was_told_goes_after_five_years_but_never_while_the_clock_is_in_doubt(
    tmp_path: Path,
) -> None:
    now = [1_000_000.0]
    with Journal.open(tmp_path, clock=lambda: now[0]) as journal:
        journal.told.keep(REPORT, "final", 1, "old")
        now[0] += KEPT_S
        journal.told.keep(REPORT, "final", 2, "young")
        journal.purge(now[0])
        assert journal.told.keep(REPORT, "final", 1, "x") == "old"
        now[0] += 1.0
        journal.purge(float("-inf"))
        assert journal.told.keep(REPORT, "final", 1, "x") == "old"
        journal.purge(now[0])
        assert journal.told.keep(REPORT, "final", 1, "new") == "new"
        assert journal.told.keep(REPORT, "final", 2, "x") == "young"
