"""What readers said is appended, counted and kept for ever; their comments go with the series."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey
from appliance.results.feedback import Feedback, ReportScores, counting
from appliance.results.mqtt import Envelope
from appliance.store.files import Disk
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, filing
from appliance.store.journal.feedback import LONGEST_COMMENT, MOST_COMMENTS, MOST_ROWS, Heard
from appliance.store.journal.ledger import LEDGER_NAME
from rigs.feedback import act

SCORES = ReportScores(threshold=0.5, findings=1, below=(0.4, 0.1))


@pytest.fixture
def report(make_report: Callable[..., Report], commit: Callable[..., None]) -> Report:
    """One that is committed."""
    made = make_report()
    commit(made, instances=10)
    return made


def test_rows_come_back_in_order_and_the_first_alone_has_the_scores(
    journal: Journal, report: Report
) -> None:
    accept, missed = act(report), act(report, "missed", score=0.4)
    assert journal.feedback.say(accept, SCORES) is Heard.SAID
    assert journal.feedback.say(missed, SCORES) is Heard.SAID
    rows = journal.feedback.of_report(report.report_id)
    assert rows == [accept.model_copy(update={"scores": SCORES}), missed]
    assert journal.feedback.all() == rows
    assert journal.feedback.of_report("another") == []


def test_a_row_and_its_message_are_one_transaction(journal: Journal, report: Report) -> None:
    said = act(report, "missed")
    before = len(journal.owed.waiting("mqtt", 100))
    journal.feedback.say(said)
    *_, row = journal.owed.waiting("mqtt", 100)
    assert row.key == str(said.uid)
    envelope = Envelope.model_validate_json(row.body or b"")
    payload = json.loads(envelope.payload)
    assert envelope.topic == f"study/{report.study.pseudonym}/event"
    assert (payload["event"], payload["verdict"], payload["seq"]) == ("feedback", "missed", row.seq)
    (audited,) = journal.audit.of(["web_feedback"])
    assert audited.detail["uid"] == str(said.uid)

    def fails(*_: object) -> None:
        raise StateUnusable("the disk is full")

    journal.owed.add_in = fails  # type: ignore[method-assign]
    with pytest.raises(StateUnusable):
        journal.feedback.say(act(report))
    assert len(journal.feedback.all()) == 1
    assert len(journal.owed.waiting("mqtt", 100)) == before + 1
    assert len(journal.audit.of(["web_feedback"])) == 1


def test_the_same_act_that_is_sent_twice_is_one_row_and_one_message(
    journal: Journal, report: Report
) -> None:
    said = act(report)
    assert journal.feedback.say(said) is Heard.SAID
    owed = journal.owed.counts().waiting
    assert journal.feedback.say(said) is Heard.KNOWN
    assert len(journal.feedback.all()) == 1
    assert journal.owed.counts().waiting == owed


def test_an_undo_takes_back_one_row_once_and_the_row_before_counts_again(
    journal: Journal, report: Report
) -> None:
    accept, reject = act(report), act(report, "reject")
    journal.feedback.say(accept)
    journal.feedback.say(reject)
    undo = act(report, "undo", undoes=reject.uid)
    assert journal.feedback.say(undo) is Heard.SAID
    undo = undo.model_copy(update={"finding": 1})  # of the row that it takes back
    rows = journal.feedback.of_report(report.report_id)
    assert rows == [accept, reject, undo]
    assert counting(rows).findings == {1: accept}
    again = act(report, "undo", undoes=reject.uid, finding=1)
    assert journal.feedback.say(again) is Heard.TAKEN_BACK
    assert journal.feedback.say(act(report, "undo", undoes=undo.uid)) is Heard.TAKEN_BACK


def test_nothing_is_said_of_a_report_that_is_not_there(
    journal: Journal, make_report: Callable[..., Report]
) -> None:
    gone = make_report("1.2.9")
    assert journal.feedback.say(act(gone)) is Heard.GONE
    text = journal.feedback.remark(gone.report_id, 1, "x", role="display", reader="ab")
    assert text is Heard.GONE
    assert journal.feedback.all() == []


def test_two_who_say_something_and_leave_at_the_same_time_let_the_next_one_in(
    tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey
) -> None:
    """As two pages do, or a page and a terminal, while no stage has the journal open: each has the
    file open, both write, and both close it. Who then comes is in a hurry and looks at nothing, so
    one of the two must have left word that the file is whole."""
    report = make_report()
    with Journal.open(tmp_path) as journal:
        journal.commit_report(report, key, owed=[], series_state="analysed", instances=1)
    together = threading.Barrier(2, timeout=60)
    said: list[Feedback] = []

    def page(act_: Feedback) -> Heard:
        with Journal.open(tmp_path, manner=Manner.HURRY) as journal:
            together.wait()
            heard = journal.feedback.say(act_)
            together.wait()
        return heard

    with ThreadPoolExecutor(2) as pages:
        for _ in range(20):
            acts = [act(report), act(report, "reject")]
            said += acts
            assert list(pages.map(page, acts)) == [Heard.SAID] * 2
            with Journal.open(tmp_path, manner=Manner.HURRY) as journal:
                rows = journal.feedback.of_report(report.report_id)
            assert {row.uid for row in rows} == {one.uid for one in said}


def test_a_page_that_is_filled_by_a_script_fills_no_disk(
    journal: Journal, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.store.journal.feedback.MOST_ROWS", 3)
    monkeypatch.setattr("appliance.store.journal.feedback.MOST_COMMENTS", 2)
    assert [journal.feedback.say(act(report)) for _ in range(4)].count(Heard.SAID) == 3
    said = [
        journal.feedback.remark(report.report_id, None, text, role="display", reader="ab")
        for text in ("x", "y", "y", "z")
    ]
    assert said == [Heard.SAID, Heard.SAID, Heard.KNOWN, Heard.TOO_MANY]
    assert (MOST_ROWS, MOST_COMMENTS) == (1000, 100)


@pytest.mark.parametrize("statement", ["UPDATE feedback SET verdict = 'reject'",
                                       "DELETE FROM feedback"])  # fmt: skip
def test_no_row_can_be_changed_or_deleted(
    journal: Journal, report: Report, tmp_path: Path, statement: str
) -> None:
    journal.feedback.say(act(report))
    changed = pytest.raises(sqlite3.IntegrityError, match="feedback rows")
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as db, changed:
        db.execute(statement)


def test_feedback_outlives_the_series_and_comments_do_not(
    journal: Journal, report: Report, key: SeriesKey, tmp_path: Path
) -> None:
    said = act(report)
    journal.feedback.say(said, SCORES)
    journal.feedback.remark(report.report_id, 1, "z" * 3000, role="radiologist", reader="ab12")
    (comment,) = journal.feedback.comments(report.report_id)
    assert (comment.finding, len(comment.text)) == (1, LONGEST_COMMENT)
    assert b"zzz" not in (tmp_path / LEDGER_NAME).read_bytes()
    assert "zzz" not in str(journal.audit.of(["web_comment"]))
    assert len(journal.audit.of(["web_comment"])) == 1
    assert not any(b"zzz" in (row.body or b"") for row in journal.owed.waiting("mqtt", 100))
    journal.owed.ack("mqtt", [row.key for row in journal.owed.waiting("mqtt", 100)])
    series = journal.series.get(key)
    assert series
    assert journal.forget(series)
    assert [row.uid for row in journal.feedback.all()] == [said.uid]
    assert journal.feedback.comments(report.report_id) == []


def test_a_series_is_not_deleted_before_its_feedback_was_sent(
    journal: Journal, report: Report, key: SeriesKey
) -> None:
    journal.owed.ack("mqtt", [row.key for row in journal.owed.waiting("mqtt", 100)])
    journal.feedback.say(act(report))
    (kept,) = journal.kept()
    assert kept.owed == 1
    assert not journal.forget(kept.series)


def damaged(state: Path) -> Journal:
    """The journal that `work` makes where the file is gone."""
    (state / JOURNAL_NAME).unlink()
    return Journal.open(state, manner=Manner.MEND)


@pytest.mark.parametrize("filed", [False, True])
def test_a_damaged_journal_loses_no_feedback(
    tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey, filed: bool
) -> None:
    report = make_report()
    acts = [act(report), act(report, "missed", score=0.4), act(report, "reject")]
    with Journal.open(tmp_path) as journal:
        journal.commit_report(report, key, owed=[], series_state="analysed", instances=1)
        for said in acts[:2]:
            journal.feedback.say(said, SCORES)
        if filed:
            journal.tidy(tmp_path)
        journal.feedback.say(acts[2])
        before = journal.feedback.all()
    with damaged(tmp_path) as journal:
        assert journal.feedback.all() == before
        assert [row.uid for row in before] == [said.uid for said in acts]
        owed = [row.key for row in journal.owed.waiting("mqtt", 9)]
        assert owed == [str(said.uid) for said in acts]
        journal.tidy(tmp_path)
    with damaged(tmp_path) as journal:
        assert journal.feedback.all() == before, "and a second damage neither"


def test_filed_feedback_leaves_the_ledger_and_is_filed_once(
    journal: Journal, report: Report, tmp_path: Path
) -> None:
    first, second = act(report), act(report, "reject")
    journal.feedback.say(first, SCORES)
    kept = (tmp_path / LEDGER_NAME).read_bytes()
    journal.tidy(tmp_path)
    assert b'"feedback"' not in (tmp_path / LEDGER_NAME).read_bytes()
    (tmp_path / LEDGER_NAME).write_bytes(kept)  # the power was cut before the ledger was shortened
    journal.feedback.say(second)
    journal.tidy(tmp_path)
    assert [one.uid for one in filing.feedback_filed(tmp_path)] == [first.uid, second.uid]


def test_an_act_that_a_kill_ended_is_never_filed(
    tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey
) -> None:
    report = make_report()
    with Journal.open(tmp_path) as journal:
        journal.commit_report(report, key, owed=[], series_state="analysed", instances=1)
    before = (tmp_path / JOURNAL_NAME).read_bytes()
    with Journal.open(tmp_path) as journal:
        journal.feedback.say(act(report))
    (tmp_path / JOURNAL_NAME).write_bytes(before)
    with Journal.open(tmp_path, manner=Manner.MEND) as journal:
        journal.tidy(tmp_path)
        assert journal.feedback.all() == []
    assert list(filing.feedback_filed(tmp_path)) == []
    assert b"feedback" not in (tmp_path / LEDGER_NAME).read_bytes()


def test_a_journal_that_lost_its_ledger_begins_one_with_all_feedback(
    tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey
) -> None:
    report, said = make_report(), None
    with Journal.open(tmp_path) as journal:
        journal.commit_report(report, key, owed=[], series_state="analysed", instances=1)
        said = act(report)
        journal.feedback.say(said, SCORES)
    (tmp_path / LEDGER_NAME).unlink()
    Journal.open(tmp_path).close()
    with damaged(tmp_path) as journal:
        assert [row.uid for row in journal.feedback.all()] == [said.uid]


def test_filing_may_be_cut_off_before_every_step(
    tmp_path: Path,
    make_report: Callable[..., Report],
    key: SeriesKey,
    cut_disk: Callable[..., Disk],
    power_cut: type[BaseException],
) -> None:
    report, state = make_report(), tmp_path / "state"
    state.mkdir()
    acts = [act(report), act(report, "reject")]
    with Journal.open(state) as journal:
        journal.commit_report(report, key, owed=[], series_state="analysed", instances=1)
        journal.feedback.say(acts[0], SCORES)
        journal.tidy(state)
        journal.feedback.say(acts[1])
    cuts = 0
    while True:
        copy = tmp_path / f"cut-{cuts}"
        shutil.copytree(state, copy)
        try:
            with Journal.open(copy) as journal:
                journal.tidy(copy, cut_disk(copy, cuts, names_lost=False))
        except power_cut:
            cuts += 1
        else:
            break
        with damaged(copy) as journal:
            kept = [row.uid for row in journal.feedback.all()]
            assert kept == [said.uid for said in acts], f"cut {cuts}"
    assert cuts >= 3
