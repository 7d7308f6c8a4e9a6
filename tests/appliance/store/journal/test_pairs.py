"""What readers say of pairs is kept row by row, and the last one counts."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.report import Report, SeriesKey
from appliance.store.journal import JOURNAL_NAME, Journal, steps
from appliance.store.journal.feedback import Heard
from appliance.store.journal.pairs import Judged, Pair, PairVerdict

PAIR, NEW = Pair(uuid.UUID(int=7), 1, 2), Pair(uuid.UUID(int=7), 2, None)


def said(of: Report, verdict: PairVerdict = "wrong", pair: Pair = PAIR) -> Judged:
    return Judged(uuid.uuid4(), 1.0, of.report_id, pair, verdict, "radiologist", "ab12")


@pytest.fixture
def report(tmp_path: Path, make_report: Callable[..., Report], key: SeriesKey) -> Report:
    with Journal.open(tmp_path) as journal:
        made = make_report()
        journal.commit_report(made, key, owed=[], series_state="analysed")
        return made


def test_the_last_act_on_a_pair_counts_and_every_act_stays(tmp_path: Path, report: Report) -> None:
    with Journal.open(tmp_path) as journal:
        for verdict in ("wrong", "right", "wrong"):
            assert journal.pairs.say(said(report, verdict)) is Heard.SAID
        journal.pairs.say(said(report, "right", NEW))
        assert journal.pairs.wrong(report.report_id) == {PAIR}
        journal.pairs.say(said(report, "undo"))
        assert journal.pairs.wrong(report.report_id) == frozenset()
        assert set(journal.pairs.counting(report.report_id)) == {NEW}
        acts = journal.pairs.of_report(report.report_id)
        assert [one.verdict for one in acts] == ["wrong", "right", "wrong", "right", "undo"]


def test_the_same_act_sent_twice_is_one_row_and_one_row_of_the_audit(
    tmp_path: Path, report: Report
) -> None:
    act = said(report)
    with Journal.open(tmp_path) as journal:
        assert [journal.pairs.say(act) for _ in range(2)] == [Heard.SAID, Heard.KNOWN]
        assert journal.pairs.of_report(report.report_id) == [act]
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as db:
        rows = db.execute("SELECT count(*) FROM audit WHERE action = 'web_pair'").fetchone()
    assert rows == (1,)


def test_of_a_report_that_is_not_there_nothing_is_said(tmp_path: Path, report: Report) -> None:
    with Journal.open(tmp_path) as journal:
        act = replace(said(report), report_id=uuid.UUID(int=1))
        assert journal.pairs.say(act) is Heard.GONE
        assert journal.pairs.of_report(uuid.UUID(int=1)) == []


def test_a_journal_without_the_step_has_no_pairs(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as db:
        db.executescript(f"PRAGMA journal_mode = WAL;BEGIN;{steps.made(steps.FIRST)}COMMIT;")
    with Journal.open(tmp_path) as journal:
        assert journal.pairs.wrong(uuid.UUID(int=1)) == frozenset()
