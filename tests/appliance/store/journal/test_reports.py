"""Reports as they were committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey, Stage
from appliance.store.journal import ANY, JOURNAL_NAME, Journal, damage
from rigs.reports import DIGEST


def test_the_final_report_comes_before_its_preliminary_and_a_higher_revision_before_both(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], commit
) -> None:
    preliminary = make_report(stage=Stage.PRELIMINARY)
    final = make_report()
    commit(final)
    commit(preliminary)
    digest = final.bundle.digest if final.bundle else None
    assert journal.reports.latest(key) == final
    assert journal.reports.next_revision(key, digest) == 2
    assert journal.reports.next_revision(key, digest, final.input_digest) == 1
    assert journal.reports.next_revision(key, None) == 1
    later = make_report(images="d" * 64, revision=2, supersedes=final.report_id)
    commit(later)
    assert journal.reports.latest(key, digest) == later
    assert journal.reports.latest(key, None) is None
    assert journal.reports.latest(key, ANY) == later
    assert journal.reports.recent(1) == [later]
    assert journal.reports.of_study(key.study) == [final, preliminary, later]


def test_a_report_is_found_by_its_id_and_so_is_its_series(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], commit
) -> None:
    report = make_report()
    assert journal.reports.get(report.report_id) is None
    assert journal.reports.series_of(report.report_id) is None
    commit(report)
    assert journal.reports.get(report.report_id) == report
    assert journal.reports.series_of(report.report_id) == key


def test_a_later_edition_takes_the_place_of_a_report_and_nothing_else_does(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], commit
) -> None:
    first = make_report()
    commit(first)
    commit(first.model_copy(update={"notice": "another word"}))
    assert journal.reports.get(first.report_id) == first
    beaten = first.model_copy(update={"edition": 2, "notice": "another word"})
    commit(beaten)
    commit(first)
    assert journal.reports.get(first.report_id) == beaten
    assert journal.reports.of_study(key.study) == [beaten]


def test_reports_of_one_series_uid_in_two_studies_are_not_mixed_up(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], commit
) -> None:
    other = SeriesKey("1.9", key.series)
    one, two = make_report(), make_report(images="d" * 64)
    commit(one)
    commit(two, other)
    digest = one.bundle.digest if one.bundle else None
    assert (journal.reports.latest(key), journal.reports.latest(other)) == (one, two)
    assert journal.reports.next_revision(other, digest) == 2
    assert journal.reports.next_revision(SeriesKey("1.8", key.series), digest) == 1


def _changed(journal: Journal, **fields: str) -> None:
    """Every report says this too."""
    with journal._db.write() as db:
        for path, text in fields.items():
            db.execute("UPDATE reports SET json = json_set(json, ?, ?)", (f"$.{path}", text))


def test_a_report_of_a_later_release_that_says_what_is_unknown_here_is_not_there_and_no_damage(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], commit, tmp_path: Path
) -> None:
    commit(make_report())
    _changed(journal, **{"findings[0].kind": "calcified plaque", "appliance": "99.0.0"})
    assert journal.reports.latest(key) is None
    assert journal.reports.get(make_report().report_id) is None
    assert journal.reports.of_series(key) == journal.reports.of_study("1.2") == []
    assert journal.shown.latest(["1.2"]) == []
    assert journal.reports.next_revision(key, DIGEST, "c" * 64) == 2, "its number is taken"
    commit(make_report(images="c" * 64, revision=2))
    assert journal.reports.latest(key) == make_report(images="c" * 64, revision=2)
    assert damage.suspected(tmp_path / JOURNAL_NAME) is None


@pytest.mark.parametrize("said", ["0.0.1", "not a version"])
def test_a_report_of_no_later_release_that_cannot_be_read_is_a_damage(
    journal: Journal, key: SeriesKey, make_report: Callable[..., Report], commit, said: str
) -> None:
    commit(make_report())
    _changed(journal, **{"findings[0].kind": "calcified plaque", "appliance": said})
    with pytest.raises(StateUnusable) as refused:
        journal.reports.latest(key)
    assert refused.value.code == damage.DAMAGED
