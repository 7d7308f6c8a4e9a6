"""What the page writes into the journal, and what it does not allow where it cannot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from starlette.requests import Request

from appliance.errors import StateUnusable
from appliance.store.events import LoginFailed
from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.web.access import rows
from appliance.web.site import Visitor
from rigs import web

WHO = Visitor("radiologist", "r" * 16, "s" * 16, "anna", True, "c" * 64, "en", "dark")
STUDIES = ["a" * 32, "b" * 32, "c" * 32]


def request_of(state: Path, looks: rows.Looks) -> Request:
    """As a page has it, as far as rows ask."""
    site = SimpleNamespace(settings=SimpleNamespace(state=state))
    app = SimpleNamespace(state=SimpleNamespace(looks=looks, site=site))
    return cast(Request, SimpleNamespace(app=app, state=SimpleNamespace(visitor=WHO)))


def looked(state: Path) -> list[list[str]]:
    with closing(Journal.open(state)) as journal:
        return [row.detail["studies"] for row in journal.audit.of((rows.LOOK,))]


def test_the_first_look_at_a_study_in_a_session_is_a_row_and_the_next_is_none(
    tmp_path: Path,
) -> None:
    request = request_of(tmp_path, rows.Looks())
    rows.look(request, STUDIES[:2])
    rows.look(request, STUDIES[:2])
    rows.look(request, STUDIES)
    rows.look(request, [])
    assert looked(tmp_path) == [STUDIES[:2], STUDIES[2:]]
    with closing(Journal.open(tmp_path)) as journal:
        assert journal.audit.verify() is None
        assert journal.audit.rows(1)[0].detail["reader"] == WHO.reader
        assert "anna" not in str(journal.audit.rows(10))


def test_pages_of_one_session_that_look_at_the_same_time_are_one_row(tmp_path: Path) -> None:
    request = request_of(tmp_path, rows.Looks())
    Journal.open(tmp_path).close()
    with ThreadPoolExecutor(12) as pages:
        for done in [pages.submit(rows.look, request, STUDIES) for _ in range(12)]:
            done.result()
    assert looked(tmp_path) == [STUDIES]


def test_a_look_that_cannot_be_written_is_an_error_and_is_tried_again(tmp_path: Path) -> None:
    looks = rows.Looks()
    with pytest.raises(StateUnusable):
        rows.look(request_of(tmp_path / "gone", looks), STUDIES)
    rows.look(request_of(tmp_path, looks), STUDIES)
    assert looked(tmp_path) == [STUDIES]


def test_failed_logins_are_rationed(tmp_path: Path) -> None:
    for _ in range(70):
        rows.failed(tmp_path, "192.0.2.1", known=False)
    with closing(Journal.open(tmp_path)) as journal:
        assert len(journal.events.of(LoginFailed)) == 60


def test_a_failed_login_that_cannot_be_written_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows.failed(tmp_path / "gone", "192.0.2.1", known=True)
    assert "a login from 192.0.2.1 failed" in caplog.text


def test_sessions_without_end_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_MOST", 3)
    looks = rows.Looks()
    for number in range(9):
        looks.noted(str(number), STUDIES)
    assert looks.new("0", STUDIES) == STUDIES
    assert looks.new("8", STUDIES) == []


def test_with_a_journal_that_takes_no_row_nobody_is_let_in(tmp_path: Path) -> None:
    with web.running(tmp_path / "state") as page, page.browser() as browser:
        name = page.account()
        (page.settings.state / JOURNAL_NAME).write_bytes(b"this is no journal" * 500)
        answer = browser.post("/login", data={"name": name, "password": web.PASSWORD})
        assert answer.status_code == 503
        assert "cannot read its records now" in answer.text
        assert str(page.settings.state) not in answer.text, "nothing of what is inside"
        assert "set-cookie" not in answer.headers
        assert '"kind"' not in (page.settings.state / "web" / "sessions.json").read_text()
