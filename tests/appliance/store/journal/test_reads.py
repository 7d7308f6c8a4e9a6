"""That a report was read to the end is kept row by row, and the last one counts."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from appliance.report import ConformalBounds, Report, SeriesKey
from appliance.results.feedback import Read, ReportScores
from appliance.store.journal import JOURNAL_NAME, Journal, steps
from appliance.store.journal.feedback import MOST_ROWS, Heard

SCORES = ReportScores(
    threshold=0.5,
    findings=0,
    below=(0.2,),
    certainty=ConformalBounds(alpha=0.05, with_from=0.6, without_to=0.4, n_with=9, n_without=9),
)


def said(of: Report, *, done: bool = True, scores: ReportScores | None = SCORES) -> Read:
    return Read(
        uid=uuid.uuid4(),
        at=1.0,
        report_id=of.report_id,
        series=uuid.UUID(int=3),
        bundle="b" * 64,
        done=done,
        role="radiologist",
        reader="ab12",
        scores=scores,
    )


@pytest.fixture
def report(tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey) -> Report:
    with Journal.open(tmp_path) as journal:
        made = make_report()
        journal.commit_report(made, key, owed=[], series_state="analysed")
        return made


def test_the_last_act_counts_and_every_act_stays_as_it_was_said(
    tmp_path: Path, report: Report
) -> None:
    acts = [said(report), said(report, done=False, scores=None), said(report)]
    with Journal.open(tmp_path) as journal:
        for act in acts:
            assert journal.reads.say(act) is Heard.SAID
            assert journal.reads.counting(report.report_id) == act
    with Journal.open(tmp_path) as journal:
        assert journal.reads.all() == acts


def test_the_same_act_sent_twice_is_one_row_and_one_row_of_the_audit(
    tmp_path: Path, report: Report
) -> None:
    act = said(report)
    with Journal.open(tmp_path) as journal:
        assert [journal.reads.say(act) for _ in range(2)] == [Heard.SAID, Heard.KNOWN]
        assert journal.reads.all() == [act]
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as db:
        rows = db.execute("SELECT detail FROM audit WHERE action = 'web_read'").fetchall()
    assert len(rows) == 1
    assert "patient" not in rows[0][0]


def test_of_a_report_that_is_not_there_nothing_is_said(tmp_path: Path, report: Report) -> None:
    with Journal.open(tmp_path) as journal:
        act = said(report).model_copy(update={"report_id": uuid.UUID(int=1)})
        assert journal.reads.say(act) is Heard.GONE
        assert journal.reads.counting(uuid.UUID(int=1)) is None


def test_a_page_filled_by_a_script_fills_no_disk(tmp_path: Path, report: Report) -> None:
    with Journal.open(tmp_path) as journal:
        with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as db:
            db.executemany(
                "INSERT INTO reads (uid, at, report_id, done, role, reader) "
                "VALUES (?, 1, ?, 1, 'radiologist', 'ab')",
                [(str(n), str(report.report_id)) for n in range(MOST_ROWS)],
            )
            db.commit()
        assert journal.reads.say(said(report)) is Heard.TOO_MANY


def test_a_journal_without_the_step_has_none(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as db:
        db.executescript(f"PRAGMA journal_mode = WAL;BEGIN;{steps.made(steps.FIRST)}COMMIT;")
    with Journal.open(tmp_path) as journal:
        assert journal.reads.all() == []
        assert journal.reads.counting(uuid.UUID(int=1)) is None
