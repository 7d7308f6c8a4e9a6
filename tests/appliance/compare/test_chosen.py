"""The newest and the oldest exam of an earlier day, by the scanners' own dates."""

from __future__ import annotations

import pytest

from appliance.compare.chosen import chosen, days, later
from appliance.compare.ports import Listed
from rigs.comparing import entry, listed, report


def exam(taken: str | None, study: str | None = None, seed: int | None = None) -> Listed:
    study = study or f"1.{taken or 0}"
    seed = int(taken or 0) if seed is None else seed
    return listed(entry(report(study), taken=taken, seed=seed))


TODAY = exam("20260301120000", "1.1", seed=1)


def dates(*kept: Listed, of: Listed = TODAY) -> list[tuple[str | None, tuple[str, ...]]]:
    return [(one.exam.facts.taken, one.which) for one in chosen(of, [of, *kept])]


def test_of_many_the_newest_and_the_oldest_are_taken_and_of_one_it_is_both() -> None:
    kept = [exam("20240101"), exam("20220101"), exam("20250101"), exam("20230101")]
    assert dates(*kept) == [("20250101", ("newest",)), ("20220101", ("oldest",))]
    assert dates(kept[0]) == [("20240101", ("newest", "oldest"))]
    assert dates() == []


def test_a_later_exam_is_no_earlier_one_and_is_compared_with_this_one() -> None:
    after = exam("20270101")
    assert dates(after) == []
    assert later(TODAY, [TODAY, after, exam("20250101")]) == [after]


def test_less_than_a_day_apart_is_the_same_day_unless_another_is_there() -> None:
    morning, yesterday = exam("20260301080000"), exam("20260228130000")
    assert days(yesterday.facts, TODAY.facts) == 0, "23 hours"
    assert dates(morning) == [("20260301080000", ("newest", "oldest"))]
    assert dates(morning, exam("20250101")) == [("20250101", ("newest", "oldest"))]


def test_a_date_without_a_time_counts_in_whole_days() -> None:
    assert days(exam("20260228").facts, TODAY.facts) == 1
    assert days(exam("20260302").facts, TODAY.facts) == -1
    assert days(exam("20260301130000").facts, TODAY.facts) == -1, "it was made later"


def test_an_exam_without_a_date_is_compared_only_where_no_dated_one_is_earlier() -> None:
    undated = exam(None, "1.9")
    assert dates(undated) == [(None, ("newest", "oldest"))]
    assert dates(undated, exam("20250101")) == [("20250101", ("newest", "oldest"))]
    assert dates(exam("20250101"), exam("20240101"), of=undated) == [
        ("20250101", ("newest",)), ("20240101", ("oldest",)),
    ]  # fmt: skip


@pytest.mark.parametrize("taken", ["20241399", "20161231235960"])
def test_a_date_that_no_calendar_has_is_none_and_costs_no_other_exam(taken: str) -> None:
    """Of an entry that another release wrote."""
    other = exam(taken, "1.3", seed=3)
    assert days(other.facts, TODAY.facts) is None
    assert ("20250101", ("newest",)) in dates(exam("20250101", "1.2"), other)


def test_another_series_of_the_study_is_no_earlier_exam() -> None:
    assert dates(exam("20250101", "1.1", seed=7)) == []


@pytest.mark.parametrize("taken", ["20250101", "20260301120000", None])
def test_the_same_pixels_are_said_only_where_there_is_no_other_exam(taken: str | None) -> None:
    again = exam(taken, "1.8", seed=1)
    assert again.facts.pixel_digest == TODAY.facts.pixel_digest
    assert dates(again) == [(taken, ("newest", "oldest"))]
    assert dates(again, exam("20240101")) == [("20240101", ("newest", "oldest"))]
