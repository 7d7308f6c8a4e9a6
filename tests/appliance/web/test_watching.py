"""What changed on a scanner, on the page of health, and what service decides of it."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.store import library, tunings
from appliance.store.library import ACCEPT, ACKNOWLEDGE, ACTS, TUNE, WITHDRAW
from appliance.web import watching
from appliance.web.text import say
from appliance.web.views.watching import REFUSED_S
from rigs import web
from rigs.watched import SCANNER, Watched, a_quality, watched

LANGUAGES = ["en", pytest.param("zh", marks=pytest.mark.long)]


@contextmanager
def alarmed(state: Path) -> Iterator[tuple[Watched, str]]:
    with watched(state) as device:
        yield device, device.alarmed().id


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_says_what_changed_and_what_to_do_in_both_languages(
    tmp_path: Path, language: str
) -> None:
    with (
        alarmed(tmp_path / "state") as (device, row),
        web.running(tmp_path / "state") as page,
        page.logged_in(headers={"accept-language": language}) as browser,
    ):
        (entry,) = device.listed().today
        text = html.unescape(browser.get("/health").text)
    assert row in text
    assert "Definition" in text
    assert "≤ 1.5 mm" in text, "in no language's words"
    assert SCANNER.serial not in text
    cause = entry.row.alarms[0].cause.value
    keys = ("state.frozen", "statistic.noise", "way.up", f"cause.{cause}", f"do.{cause}")
    for spoken in say.LANGUAGES:
        words = say.texts(spoken)
        there = {words[f"drift.{key}"] in text for key in keys}
        assert there == {spoken == language}
    assert 'value="accept"' not in text, "a radiologist decides nothing of a scanner"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_how_many_implants_were_found(tmp_path: Path, language: str) -> None:
    with watched(tmp_path / "state") as device, web.running(tmp_path / "state") as page:
        device.learnt(30)
        with page.logged_in(headers={"accept-language": language}) as browser:
            before = html.unescape(browser.get("/health").text)
            device.probed(proposes=True)
            after = html.unescape(browser.get("/health").text)
    words = say.speaker(say.texts(language))
    said = (
        words("drift.implants_note"),
        words("drift.implants_between", from_mm="6", below_mm="8", found=0, implants=3),
        words("drift.implants_from", from_mm="8", found=6, implants=6),
        words("drift.proposed", mm="0.6", implants=200, tuned="62", now="50"),
    )
    for one in said:
        assert one in after
        assert one not in before


@pytest.mark.parametrize("language", LANGUAGES)
def test_service_accepts_what_is_proposed_and_takes_it_back(tmp_path: Path, language: str) -> None:
    words = say.speaker(say.texts(language))
    state = tmp_path / "state"
    with watched(state) as device, web.running(state) as page:
        entry = device.sharpened()
        spoken = {"accept-language": language}
        with page.logged_in("technologist", headers=spoken) as browser:
            text = html.unescape(browser.get("/health").text)
            assert words("drift.tune_how", row=entry.id) in text
            assert 'value="tune"' not in text
            key = web.csrf(browser, "/health")
            sent = {"csrf": key, "row": entry.id, "verb": "tune", "mm": "0.6"}
            assert browser.post("/health/watch", data=sent).status_code == 403
        with page.logged_in("service", headers=spoken) as browser:
            assert words("drift.tune", mm="0.6") in html.unescape(browser.get("/health").text)
            key = web.csrf(browser, "/health")
            for odd in ({"mm": "0.8"}, {"mm": ""}, {"verb": "withdraw"}, {"verb": "accept"}):
                sent = {"csrf": key, "row": entry.id, "verb": "tune", "mm": "0.6", **odd}
                assert browser.post("/health/watch", data=sent).status_code == 400
            assert device.journal.audit.of(ACTS) == []
            sent = {"csrf": key, "row": entry.id, "verb": "tune", "mm": "0.6"}
            assert browser.post("/health/watch", data=sent).status_code == 303
            (act,) = device.journal.audit.of(ACTS)
            assert (act.action, act.detail["role"], act.detail["soften_mm"]) == (
                TUNE, "service", "0.6",
            )  # fmt: skip
            assert 'value="tune"' not in browser.get("/health").text, "it waits"
            device.count()
            text = html.unescape(browser.get("/health").text)
            assert words("drift.tuned", mm="0.6", per_mm="0.3") in text
            assert browser.post("/health/watch", data=sent).status_code == 400, "once"
            sent = {"csrf": key, "row": entry.id, "verb": "withdraw", "mm": ""}
            assert browser.post("/health/watch", data=sent).status_code == 303
            device.count()
            assert tunings.in_force(state) == ()
            (state / tunings.NAME).write_bytes(b"{")
            text = html.unescape(browser.get("/health").text)
            assert words("drift.tunings_damaged") in text
            assert 'value="tune"' not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_service_takes_back_a_tuning_whose_row_is_gone(tmp_path: Path, language: str) -> None:
    words = say.speaker(say.texts(language))
    state = tmp_path / "state"
    with watched(state) as device, web.running(state) as page:
        entry, made = device.evicted()
        name = made.digest[:16]
        spoken = {"accept-language": language}
        with page.logged_in("radiologist", headers=spoken) as browser:
            text = html.unescape(browser.get("/health").text)
            for part in (
                words("drift.tuning", tuning=name),
                words("drift.without_row"),
                words("drift.tuned", mm="0.6", per_mm="0.3"),
                words("drift.withdraw_how", tuning=name),
            ):
                assert part in text
            assert 'value="withdraw"' not in text
        with page.logged_in("service", headers=spoken) as browser:
            key = web.csrf(browser, "/health")
            sent = {"csrf": key, "row": name, "verb": "withdraw", "mm": ""}
            for odd, status in (({"row": entry.id}, 404), ({"row": made.digest}, 404),
                                ({"verb": "accept"}, 400), ({"verb": "tune"}, 400)):  # fmt: skip
                assert browser.post("/health/watch", data={**sent, **odd}).status_code == status
            assert device.journal.audit.of((WITHDRAW,)) == []
            assert browser.post("/health/watch", data=sent).status_code == 303
            (act,) = device.journal.audit.of((WITHDRAW,))
            assert (act.detail["tuning"], act.detail["role"]) == (made.digest, "service")
            waits = browser.get("/health").text
            assert words("drift.waits") in html.unescape(waits)
            assert 'value="withdraw"' not in waits
            device.count()
            assert tunings.in_force(state) == ()
            assert name not in browser.get("/health").text
            assert browser.post("/health/watch", data=sent).status_code == 404


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_work_refused_of_a_decision_is_said_beside_the_row(
    tmp_path: Path, language: str
) -> None:
    words = say.speaker(say.texts(language))
    state = tmp_path / "state"
    with watched(state) as device, web.running(state) as page:
        entry = device.sharpened()
        with page.logged_in("service", headers={"accept-language": language}) as browser:
            sent = {"csrf": web.csrf(browser, "/health"), "row": entry.id, "verb": "tune"}
            assert browser.post("/health/watch", data={**sent, "mm": "0.6"}).status_code == 303
            device.probed(proposes=False)
            device.count()
            text = html.unescape(browser.get("/health").text)
    decision, why = words("drift.decision.drift_tune"), words("drift.refused_why.no_proposal")
    for part in words("drift.refused", at="|", decision=decision, why=why).split("|"):
        assert part in text
    assert words("drift.waits") not in text


def test_a_refusal_goes_with_the_next_decision_that_is_obeyed_and_after_a_day(
    tmp_path: Path,
) -> None:
    with watched(tmp_path / "state") as device:
        device.learnt()
        (entry,), audit = device.listed().today, device.journal.audit

        def refused(later_s: float = 0.0) -> list[tuple[str, str]]:
            device.count()
            now = audit.of(ACTS)[-1].at + later_s
            shown = watching.look(device.settings, device.journal, now).rows
            return [(one.refused.action, one.refused.code) for one in shown if one.refused]

        audit.add("web", ACCEPT, row=entry.id)
        assert refused() == [(ACCEPT, "no_alarm")]
        assert refused(REFUSED_S - 60) == [(ACCEPT, "no_alarm")]
        assert refused(REFUSED_S + 60) == []
        device.reported(20_000, a_quality(60.0))
        device.count()
        audit.add("web", ACKNOWLEDGE, row=entry.id)
        assert refused() == []


def test_a_refusal_that_the_page_has_no_words_for_says_where_to_look(tmp_path: Path) -> None:
    with watched(tmp_path / "state") as device:
        _, made = device.evicted()
        act = device.journal.audit.add("web", WITHDRAW, tuning=made.digest)
        device.journal.audit.add(
            "work", library.REFUSED, act=WITHDRAW, of=act, tuning=made.digest, code="odd"
        )
        (row,) = [
            one
            for one in watching.look(device.settings, device.journal, time.time()).rows
            if one.tuning
        ]
    assert row.refused is not None
    assert (row.refused.action, row.refused.code, row.waits) == (WITHDRAW, "other", False)


def test_service_accepts_a_change_once_and_nobody_else_may(tmp_path: Path) -> None:
    with (
        alarmed(tmp_path / "state") as (device, row),
        web.running(tmp_path / "state") as page,
    ):
        with page.logged_in("technologist") as browser:
            sent = {"csrf": web.csrf(browser, "/health"), "row": row, "verb": "accept"}
            assert browser.post("/health/watch", data=sent).status_code == 403
        with page.logged_in("service") as browser:
            key = web.csrf(browser, "/health")
            for odd, status in (({"row": "f" * 16}, 404), ({"verb": "delete"}, 404),
                                ({"row": "../x"}, 404), ({"csrf": "0" * 64}, 403)):  # fmt: skip
                sent = {"csrf": key, "row": row, "verb": "accept", **odd}
                assert browser.post("/health/watch", data=sent).status_code == status
            assert device.journal.audit.of(ACTS) == []
            sent = {"csrf": key, "row": row, "verb": "accept"}
            answer = browser.post("/health/watch", data=sent)
            assert (answer.status_code, answer.headers["location"]) == (303, "/health#watch")
            (act,) = device.journal.audit.of(ACTS)
            assert (act.actor, act.action, act.detail["role"]) == ("web", ACCEPT, "service")
            waits = browser.get("/health").text
            assert "It counts as soon as" in waits
            assert 'value="accept"' not in waits
            device.count()
            text = browser.get("/health").text
            assert "former: ended by a person" in text
            assert browser.post("/health/watch", data=sent).status_code == 400
    assert library.told(tmp_path / "state").rows[0].alarms == ()
