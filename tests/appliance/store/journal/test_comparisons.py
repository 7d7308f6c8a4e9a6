"""What is to be compared and what was: rows that outlive processes, and go with their series."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from appliance.comparison import Comparison, PriorRef
from appliance.reasons import Code
from appliance.report import Reason, Report, SeriesKey
from appliance.store.journal import Journal
from appliance.store.rows import ToCompare
from rigs.reports import NAMING

Make = Callable[..., Report]


def wanted(report: Report, key: SeriesKey, *, prior_only: bool = False) -> ToCompare:
    return ToCompare(str(report.report_id), key.study, key.series, "a" * 64, prior_only)


def said(report: Report, number: int, prior: uuid.UUID | None = None) -> Comparison:
    return Comparison(
        comparison_id=uuid.UUID(int=number),
        report_id=report.report_id,
        study=report.study.pseudonym,
        status="compared" if prior else "not_compared",
        reasons=() if prior else (Reason(code=Code.NO_PRIOR, text="none"),),
        prior=PriorRef(study=NAMING.study("1.1"), report_id=prior, which=("newest",))
        if prior
        else None,
    )


def commit(journal: Journal, report: Report, key: SeriesKey, **more: object) -> None:
    journal.commit_report(
        report, key, owed=[], series_state="analysed", instances=9, **more  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_row_waits_until_its_comparisons_are_committed_and_is_not_done_again(
    journal: Journal, make_report: Make, key: SeriesKey
) -> None:
    report = make_report()
    commit(journal, report, key, compares=[wanted(report, key)])
    assert [row.report_id for row in journal.comparisons.to_do()] == [str(report.report_id)]
    one = said(report, 1)
    assert journal.comparisons.commit(report.report_id, [one], superseded=(), owed=[])
    assert not journal.comparisons.any()
    assert journal.comparisons.standing(report.report_id) == [one]
    assert not journal.comparisons.commit(report.report_id, [one], superseded=(), owed=[])
    commit(journal, report, key, compares=[wanted(report, key)])
    assert not journal.comparisons.any()


def test_an_earlier_exam_that_was_pushed_is_done_before_the_exams_that_wait(
    journal: Journal, make_report: Make, key: SeriesKey
) -> None:
    first, second = make_report("1.2.3"), make_report("1.2.4")
    other = SeriesKey("1.2", "1.2.4")
    commit(journal, first, key, compares=[wanted(first, key)])
    commit(journal, second, other, compares=[wanted(second, other, prior_only=True)])
    assert [row.prior_only for row in journal.comparisons.to_do()] == [True, False]


def test_an_exam_that_is_withdrawn_lets_those_wait_again_that_were_compared_with_it(
    journal: Journal, make_report: Make, key: SeriesKey
) -> None:
    old, today = make_report("1.2.3"), make_report("1.2.4")
    other = SeriesKey("1.2", "1.2.4")
    commit(journal, old, key, compares=[wanted(old, key)])
    commit(journal, today, other, compares=[wanted(today, other)])
    journal.comparisons.commit(old.report_id, [said(old, 1)], superseded=(), owed=[])
    beside = said(today, 2, old.report_id)
    journal.comparisons.commit(today.report_id, [beside], superseded=(), owed=[])
    commit(journal, old, key, withdrawn=[old.report_id])
    (row,) = journal.comparisons.to_do()
    assert row.state == "withdrawn"
    assert journal.comparisons.withdrawn(row.report_id) == [str(today.report_id)]
    assert [one.report_id for one in journal.comparisons.to_do()] == [str(today.report_id)]
    assert journal.comparisons.standing(old.report_id) == []


def test_a_series_that_is_deleted_takes_its_rows_with_it(
    journal: Journal, make_report: Make, key: SeriesKey
) -> None:
    report = make_report()
    commit(journal, report, key, compares=[wanted(report, key)])
    journal.comparisons.commit(report.report_id, [said(report, 1)], superseded=(), owed=[])
    series = journal.series.get(key)
    assert series is not None
    assert journal.forget(series)
    assert journal.comparisons.row(report.report_id) is None
    assert journal.comparisons.of_report(report.report_id) == []


def test_rows_that_the_release_before_left_without_a_report_go(
    journal: Journal, make_report: Make, key: SeriesKey
) -> None:
    report = make_report()
    journal.comparisons.note([wanted(report, key)])
    assert journal.comparisons.to_do() == []
    assert journal.comparisons.row(report.report_id) is None


def test_a_person_who_is_forgotten_is_in_no_comparison_of_any_exam(
    journal: Journal, make_report: Make, key: SeriesKey
) -> None:
    old, today = make_report("1.2.3"), make_report("1.2.4")
    other = SeriesKey("1.2", "1.2.4")
    commit(journal, old, key, compares=[wanted(old, key)])
    commit(journal, today, other, compares=[wanted(today, other)])
    beside = said(today, 2, old.report_id)
    journal.comparisons.commit(today.report_id, [beside], superseded=(), owed=[])
    gone = journal.comparisons.forget([str(old.report_id)])
    assert gone == [(str(today.report_id), str(beside.comparison_id))]
    assert journal.comparisons.get(beside.comparison_id) is None
    assert [report.report_id for _, report in journal.uncompared()] == []
    journal.comparisons.note([wanted(old, key)])
    assert str(old.report_id) not in {row.report_id for row in journal.comparisons.to_do()}


def test_a_comparison_of_a_later_release_that_says_what_is_unknown_here_is_left_out(
    journal: Journal, make_report: Make, key: SeriesKey
) -> None:
    report = make_report()
    commit(journal, report, key, compares=[wanted(report, key)])
    one = said(report, 1)
    journal.comparisons.commit(report.report_id, [one], superseded=(), owed=[])
    with journal._db.write() as db:
        db.execute("UPDATE compared SET json = replace(json, 'no_prior', 'of_a_later_release')")
    assert journal.comparisons.standing(report.report_id) == []


def test_a_study_that_is_an_exam_after_all_owes_and_waits(
    journal: Journal, make_report: Make, key: SeriesKey
) -> None:
    report = make_report()
    commit(journal, report, key, compares=[wanted(report, key, prior_only=True)], silent=True)
    journal.comparisons.commit(report.report_id, [], superseded=(), owed=[])
    assert journal.series.silent(key.study) == [key]
    journal.say_after_all(key.study, [])
    assert journal.series.silent(key.study) == []
    (row,) = journal.comparisons.to_do()
    assert not row.prior_only
