"""A journal that a program from outside keeps locked: a clear page at once, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.web import site
from rigs import web
from rigs.peers import HANG_S
from rigs.ward import Exam

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("SELECT count(*) FROM reports").fetchone()
db.execute(f"PRAGMA locking_mode = {sys.argv[2]}")
db.execute("BEGIN EXCLUSIVE")
db.execute("DELETE FROM comments")
if sys.argv[2] == "EXCLUSIVE":
    db.execute("COMMIT")
print("held", flush=True)
sys.stdin.read()
"""
"""What a person at the SQLite shell, or a backup that is too careful, does to a journal."""
HTML = {"accept": "text/html"}


@contextmanager
def held(state: Path, mode: str) -> Iterator[None]:
    """Another process has the journal. EXCLUSIVE: all of it; NORMAL: the one turn to write."""
    command = [sys.executable, "-c", HOLD, str(state / JOURNAL_NAME), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(HANG_S)


def give(reader: httpx.Client, exam: Exam, uid: uuid.UUID, csrf: str) -> httpx.Response:
    values = {
        "csrf": csrf,
        "report": str(exam.reports[-1].report_id),
        "page": "report",
        "uid": str(uid),
        "verdict": "accept",
        "finding": "1",
    }
    return reader.post("/feedback", data=values)


def test_a_page_waits_for_less_than_a_second() -> None:
    assert site.PATIENCE_MS < 1000


def test_every_page_says_that_it_cannot_read_while_another_process_has_all_of_the_journal(
    bedside: web.Page, state: Path, day: dict[str, Exam]
) -> None:
    found = day["found"]
    paths = ["/", f"/study/{found.study}", "/health", "/operating-point", "/ledger.csv"]
    paths += [f"/study/{found.study}/series/{found.series}/images"]
    paths += [f"/feedback/{found.reports[-1].report_id}", f"/events?of=study&study={found.study}"]
    with bedside.logged_in("radiologist", headers=HTML) as reader:
        with held(state, "EXCLUSIVE"):
            for path in paths:
                answer = reader.get(path)
                assert answer.status_code == 503, path
                assert "cannot read its records now" in answer.text, path
                assert "Analysis goes on, and nothing is lost" in answer.text, path
        for path in paths[:-1]:
            assert reader.get(path).status_code != 503, path


def test_a_verdict_that_cannot_be_written_is_said_to_be_lost_and_is_one_row_when_sent_again(
    bedside: web.Page, state: Path, day: dict[str, Exam]
) -> None:
    found, uid = day["found"], uuid.uuid4()
    with Journal.open(state) as beside, bedside.logged_in("radiologist") as reader:
        token = web.csrf(reader)
        with held(state, "NORMAL"):
            lost = give(reader, found, uid, token)
            assert lost.status_code == 503
            assert "Not saved" in lost.text
            assert reader.get(f"/feedback/{found.reports[-1].report_id}").status_code == 200
        for _ in range(2):
            assert give(reader, found, uid, token).status_code == 303
        said = beside.feedback.of_report(found.reports[-1].report_id)
        assert [act.uid for act in said] == [uid]


def test_nobody_is_let_in_and_no_name_is_shown_while_their_row_cannot_be_written(
    bedside: web.Page, state: Path, day: dict[str, Exam]
) -> None:
    with Journal.open(state), bedside.logged_in("technologist", headers=HTML) as reader:
        with held(state, "NORMAL"):
            listed = reader.get("/")
            assert listed.status_code == 200
            assert "Names cannot be shown now" in listed.text
            with bedside.browser(headers=HTML) as other:
                form = {"name": bedside.account(), "password": web.PASSWORD, "next": "/"}
                answer = other.post("/login", data=form)
                assert answer.status_code == 503
                assert "set-cookie" not in answer.headers
        assert "Names cannot be shown now" not in reader.get("/").text
        assert day


@pytest.mark.parametrize("busy_ms", [1, 30])
def test_who_reads_or_writes_says_how_long_it_waits(tmp_path: Path, busy_ms: int) -> None:
    with Journal.open(tmp_path, busy_ms=busy_ms) as journal, journal._db.look() as db:
        assert db.execute("PRAGMA busy_timeout").fetchone()[0] == busy_ms
        with_all_its_time = Journal.read(tmp_path, busy_ms)
        assert with_all_its_time is not None
        with with_all_its_time, with_all_its_time._db.look() as inside:
            assert inside.execute("PRAGMA busy_timeout").fetchone()[0] == busy_ms
