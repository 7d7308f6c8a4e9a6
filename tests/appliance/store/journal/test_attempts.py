"""Failures, deaths of the machine and another try, as the journal counts them."""

from __future__ import annotations

from appliance.report import SeriesKey
from appliance.store.journal import Journal

OTHER = SeriesKey("1.7", "1.7.1")


def _row(journal: Journal, key: SeriesKey) -> tuple[str, int, int]:
    row = journal.series.get(key)
    assert row is not None
    return row.state, row.attempts, row.suspected


def test_attempts_start_anew_with_new_slices_and_with_a_conclusion(
    journal: Journal, key: SeriesKey, arrive
) -> None:
    arrive(1, 100.0)
    assert [journal.attempts.add(key) for _ in range(3)] == [1, 2, 3]
    journal.attempts.failed(key, instances=1, made_of="a 1")
    arrive(1, 200.0)
    assert _row(journal, key) == ("open", 0, 0)
    journal.attempts.add(key)
    journal.attempts.end(key)
    assert _row(journal, key) == ("open", 0, 0)
    assert journal.attempts.add(SeriesKey("9", "9")) == 0, "of an unknown series"


def test_deaths_count_once_a_boot_and_anew_at_another_step(
    journal: Journal, key: SeriesKey
) -> None:
    journal.series.set(key, "open")
    boots = [("b1", "judge"), ("b1", "judge"), ("b2", "judge"), ("b3", "read"), ("b4", "read")]
    assert [journal.attempts.suspect(key, *boot) for boot in boots] == [1, 1, 2, 1, 2]
    assert [row.key for row in journal.attempts.suspects()] == [key]
    assert journal.attempts.suspect(SeriesKey("9", "9"), "b1", "read") == 0


def test_whatever_is_finished_ends_every_suspicion(journal: Journal, key: SeriesKey) -> None:
    for one in (key, OTHER):
        journal.series.set(one, "open")
    journal.attempts.suspect(key, "b1", "judge")
    journal.attempts.end(OTHER)
    assert journal.attempts.suspects() == []


def test_only_what_failed_with_something_else_is_tried_once_more(
    journal: Journal, key: SeriesKey
) -> None:
    journal.series.set(key, "open")
    journal.series.set(OTHER, "failed", instances=1)  # by a release that noted nothing
    journal.attempts.failed(key, instances=3, made_of="a 1")
    assert journal.attempts.failed_with_other("a 1") == [OTHER]
    assert set(journal.attempts.failed_with_other("a 2")) == {key, OTHER}
    journal.attempts.renew([key], "a 2", left_off=2)
    assert _row(journal, key) == ("open", 2, 0)
    journal.attempts.failed(key, instances=3, made_of="a 2")
    assert journal.attempts.failed_with_other("a 2") == [OTHER]


def test_a_person_may_have_what_failed_tried_again_and_nothing_else(
    journal: Journal, key: SeriesKey
) -> None:
    journal.series.set(key, "open")
    journal.series.set(OTHER, "analysed", instances=1)
    for _ in range(3):
        journal.attempts.add(key)
    journal.attempts.failed(key, instances=3, made_of="a 1")
    assert journal.attempts.retry("uid 7", [key, OTHER]) == 1
    assert _row(journal, key) == ("open", 0, 0)
    assert _row(journal, OTHER) == ("analysed", 0, 0)
    (row,) = journal.audit.rows(1)
    assert (row.actor, row.action) == ("uid 7", "series_retry")
    assert journal.attempts.retry("uid 7", [key]) == 0
