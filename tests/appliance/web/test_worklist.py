"""GET /, served by the stage: what a list shows to whom."""

from __future__ import annotations

import re
import time
from html import escape
from pathlib import Path

import httpx
import pytest

from appliance.store.journal import Journal
from appliance.store.lock import locked
from rigs import ward, web
from rigs.processes import children
from rigs.ward import HOSTILE, Exam, Ward

WORDS = {
    "arriving": "ARRIVING, 117 images",
    "preliminary": "PRELIMINARY, findings so far: 1",
    "found": "ANALYSED, findings: 3",
    "nothing": "ANALYSED: no finding reached its threshold",
    "limits": "ANALYSED WITH LIMITS, findings: 1",
    "in_part": "ANALYSED IN PART, findings: 3, series not analysed: 1",
    "refused": "NOT ANALYSED",
    "failed": "ANALYSIS FAILED",
    "aside": "SET ASIDE: nothing to analyse",
    "revised": "ANALYSED, findings: 2",
}


def rows(answer: httpx.Response) -> dict[str, str]:
    """Pseudonym -> its row."""
    assert answer.status_code == 200, answer.text
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", answer.text, re.DOTALL)
    named = [(re.search(r'href="/study/([0-9a-f]{32})"', row), row) for row in found]
    return {name[1]: row for name, row in named if name}


def decoding(page: web.Page) -> bool:
    """Whether the process that decodes images runs."""
    return bool(children(page.process.pid))


def looks(state: Path) -> int:
    journal = Journal.read(state)
    assert journal is not None
    with journal:
        return len(journal.audit.of(["web_look"]))


def test_each_study_is_a_row_the_newest_first_with_its_word_and_its_sign(
    bedside: web.Page, day: dict[str, Exam]
) -> None:
    with bedside.logged_in() as browser:
        found = rows(browser.get("/"))
    assert list(found) == [exam.study for exam in day.values()]
    for name, exam in day.items():
        assert escape(WORDS[name]) in found[exam.study]
        assert 'class="sign"' in found[exam.study]
    assert "Send a reconstruction without gantry tilt." in found[day["refused"].study]
    assert "2.0 s waiting" in found[day["found"].study]
    told = {name for name, exam in day.items() if "LOOK BEFORE" in found[exam.study]}
    assert told == {"limits"}


def test_a_filter_shows_its_studies_alone(bedside: web.Page, day: dict[str, Exam]) -> None:
    with bedside.logged_in() as browser:
        refused = rows(browser.get("/", params={"status": "not_analysed"}))
        assert set(refused) == {day[name].study for name in ("in_part", "refused", "failed")}
        one = day["found"].study
        assert set(rows(browser.get("/", params={"q": one[:10].upper()}))) == {one}
        assert rows(browser.get("/", params={"scanner": "CT_ELSEWHERE"})) == {}
        said = browser.get("/", params={"q": "1.2.840"}).text
        assert "only the signs 0-9 and a-f" in said
        assert len(rows(browser.get("/", params={"behind": "x", "status": "'--"}))) == len(day)


def test_names_are_text_are_seen_by_who_may_and_each_look_is_written_down_once(
    bedside: web.Page, state: Path, day: dict[str, Exam]
) -> None:
    assert day
    before = looks(state)
    with bedside.logged_in("radiologist") as browser:
        first = browser.get("/").text
        browser.get("/")
    assert escape(HOSTILE) in first.replace("&#34;", "&quot;")
    assert HOSTILE not in first
    assert "4712" in first
    assert looks(state) == before + 1
    with bedside.logged_in("service") as browser:
        assert "4712" not in browser.get("/").text
    assert looks(state) == before + 1


def test_where_a_look_cannot_be_written_down_no_name_is_shown(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with web.running(state, names=True) as serving, Ward(state) as at_work:
        ward.a_day(at_work, names=True)
        with serving.logged_in() as browser:
            (opener,) = state.glob("journal-*.sqlite.lock")
            with locked(opener):  # somebody looks whether the journal is whole
                said = browser.get("/").text
            assert "Names cannot be shown now" in said
            assert "4712" not in said
            assert "ANALYSED, findings: 3" in said
            assert "4712" in browser.get("/").text


@pytest.mark.long
def test_pages_go_on_to_the_last_study(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Ward(state) as at_work:
        for number in range(60):
            at_work.report(at_work.arrive(minutes_ago=number))
    with web.running(state) as serving, serving.logged_in() as browser:
        seen: list[str] = []
        path: str | None = "/"
        while path:
            answer = browser.get(path)
            seen += rows(answer)
            further = re.search(r'href="(/\?behind=[^"]+)"', answer.text)
            path = further[1].replace("&amp;", "&") if further else None
    assert len(seen) == len(set(seen)) == 60


def test_before_the_first_study_and_with_a_damaged_journal_there_is_a_clear_page(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with web.running(state) as serving:
        name = serving.account()
        with serving.browser() as browser:
            with Ward(state):
                pass
            web.log_in(browser, name)
            assert "No study has come yet" in browser.get("/").text
            for path in state.glob("journal-*.sqlite*"):
                if path.suffix == ".sqlite":
                    path.write_bytes(b"no journal" * 1000)
            answer = browser.get("/")
            assert answer.status_code == 503
            assert "cannot read its records now" in answer.text
            assert str(tmp_path) not in answer.text


def test_who_opens_the_list_has_what_decodes_images_started_and_a_page_alone_does_not(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with Ward(state):
        pass
    with web.running(state) as page, page.browser() as browser:
        web.log_in(browser, page.account("technologist"))
        assert browser.get("/", headers={"x-scanside-unasked": "1"}).status_code == 200
        assert not decoding(page)
        assert browser.get("/").status_code == 200
        until = time.monotonic() + web.HANG_S
        while not decoding(page) and time.monotonic() < until:
            time.sleep(0.02)
        assert decoding(page)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_word_is_there_in_both_languages(
    bedside: web.Page, day: dict[str, Exam], language: str
) -> None:
    with bedside.logged_in(headers={"accept-language": language}) as browser:
        text = browser.get("/").text
    assert ("工作列表" in text) == (language == "zh")
    assert ("未分析" in text) == (language == "zh")
    assert day["found"].study in text
