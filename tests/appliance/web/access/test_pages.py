"""The door as a person meets it, at the real stage: login, password, link, display, logout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from appliance.store.events import LoginFailed
from appliance.store.journal import Journal
from appliance.store.rows import AuditRow
from appliance.web.access import link
from appliance.web.access.accounts import Accounts
from rigs import web
from rigs.web import PASSWORD, csrf, log_in

HTML = {"accept": "text/html"}


def rows(page: web.Page, action: str) -> list[AuditRow]:
    journal = Journal.read(page.settings.state)
    if journal is None:
        return []
    with journal:
        return [row for row in journal.audit.rows(1000) if row.action == action]


def secret_of(address: str) -> str:
    return address.partition("#")[2]


# login


def test_a_person_logs_in_is_shown_the_page_and_logs_out(page: web.Page) -> None:
    name = page.account("technologist")
    with page.browser(headers=HTML) as browser:
        sent = browser.get("/?day=3")
        assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=/%3Fday%3D3")
        log_in(browser, name)
        assert name in browser.get("/").text
        cookie = browser.cookies[f"scanside-{page.settings.web.port}"]
        out = browser.post("/logout", data={"csrf": csrf(browser)})
        assert out.headers["location"] == "/login"
        assert "Max-Age=0" in out.headers["set-cookie"]
        browser.cookies.set(f"scanside-{page.settings.web.port}", cookie, domain="127.0.0.1")
        assert browser.get("/").status_code == 303, "the cookie that was kept opens nothing"


def test_a_login_and_a_logout_are_rows_without_the_name_of_the_account(page: web.Page) -> None:
    name = page.account("technologist")
    before = len(rows(page, "web_login")), len(rows(page, "web_logout"))
    with page.browser() as browser:
        log_in(browser, name)
        browser.post("/logout", data={"csrf": csrf(browser)})
    logins, logouts = rows(page, "web_login"), rows(page, "web_logout")
    assert (len(logins) - before[0], len(logouts) - before[1]) == (1, 1)
    detail = logins[0].detail
    assert (detail["role"], detail["kind"]) == ("technologist", "account")
    assert detail["address"] == "127.0.0.1"
    assert logouts[0].detail["reader"] == detail["reader"]
    assert logouts[0].detail["session"] == detail["session"]
    assert name not in str(detail)


def test_the_cookie_is_for_this_site_and_no_script_alone(page: web.Page) -> None:
    with page.browser() as browser:
        answer = browser.post("/login", data={"name": page.account(), "password": PASSWORD})
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert "max-age" not in said, "it ends with the browser"


def test_a_wrong_password_and_an_unknown_name_are_answered_alike_and_noted(page: web.Page) -> None:
    name = page.account()
    with page.browser() as browser:
        wrong = browser.post("/login", data={"name": name, "password": "x"})
        unknown = browser.post("/login", data={"name": "nobody", "password": "x"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.text == unknown.text
    assert "set-cookie" not in wrong.headers
    journal = Journal.read(page.settings.state)
    assert journal is not None
    with journal:
        noted = [one.event for one in journal.events.of(LoginFailed)]
    assert {one.known for one in noted} == {True, False}
    assert {one.subject for one in noted} == {"127.0.0.1"}
    assert "nobody" not in str(noted)


def test_who_fails_again_and_again_waits_and_keeps_nobody_else_out(page: web.Page) -> None:
    name, other = page.account(), page.account()
    with page.browser() as browser:
        statuses = [
            browser.post("/login", data={"name": name, "password": "x"}).status_code
            for _ in range(4)
        ]
        assert statuses[:3] == [401, 401, 401]
        assert statuses[3] == 429
        waits = browser.post("/login", data={"name": name, "password": PASSWORD})
        assert waits.status_code in {429, 303}, "the pause of a second may be over"
        log_in(browser, other)


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example/", "/\\evil", "x", ""])
def test_a_login_leads_to_no_other_site(page: web.Page, wanted: str) -> None:
    with page.browser() as browser:
        form = {"name": page.account(), "password": PASSWORD, "next": wanted}
        assert browser.post("/login", data=form).headers["location"] == "/"


def test_a_script_without_a_login_is_told_and_not_led_away(page: web.Page) -> None:
    with page.browser() as browser:
        assert browser.get("/").status_code == 401


# the first password


def test_a_first_password_opens_nothing_but_its_own_change(page: web.Page) -> None:
    accounts = Accounts(page.settings.state)
    first = accounts.add("carla", "radiologist")
    with page.browser(headers=HTML) as browser:
        log_in(browser, "carla", first)
        assert browser.get("/").headers["location"] == "/password"
        token = csrf(browser, "/password")
        form = {"csrf": token, "old": first, "new": PASSWORD, "again": PASSWORD}
        for wrong in (
            {"again": "x"},
            {"new": "short", "again": "short"},
            {"new": first, "again": first},
            {"old": "x"},
        ):
            answer = browser.post("/password", data={**form, **wrong})
            assert answer.status_code in {400, 401}, wrong
        assert browser.post("/password", data=form).headers["location"] == "/"
        assert browser.get("/").status_code == 200
    found = accounts.must("carla")
    assert not found.first
    assert rows(page, "web_user_password")[0].detail["account"] == "carla"


# what ends a session at once


@pytest.mark.parametrize("verb", ["remove", "reset"])
def test_an_account_that_is_removed_or_reset_is_out_at_the_next_request(
    page: web.Page, verb: str
) -> None:
    name = page.account()
    with page.browser(headers=HTML) as browser:
        log_in(browser, name)
        assert browser.get("/").status_code == 200
        command = [sys.executable, "-m", "appliance", "web", "user", verb, name]
        done = subprocess.run(
            [*command, "--config", str(page.config)], capture_output=True, check=True
        )
        assert name in (done.stdout + done.stderr).decode()
        assert browser.get("/").status_code == 303


def test_two_accounts_in_two_browsers_do_not_mix(page: web.Page) -> None:
    one, other = page.account("technologist"), page.account("service")
    with page.browser() as left, page.browser() as right:
        log_in(left, one)
        log_in(right, other)
        assert one in left.get("/").text
        assert other in right.get("/").text
        assert csrf(left) != csrf(right)
        crossed = right.post("/logout", data={"csrf": csrf(left)})
        assert crossed.status_code == 403
        assert right.get("/").status_code == 200


# links


def spend(browser: httpx.Client, address: str) -> httpx.Response:
    return browser.post("/start", data={"secret": secret_of(address)})


def test_a_link_is_spent_by_its_button_and_not_by_looking_at_it(page: web.Page) -> None:
    address = page.link()
    with page.browser(headers=HTML) as browser:
        for _ in range(3):
            assert browser.get(address).status_code == 200
        answer = spend(browser, address)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert browser.get("/").status_code == 200
        with page.browser() as another:
            assert spend(another, address).status_code == 403
    assert secret_of(address) not in page.log.read_text()
    assert rows(page, "web_login")[0].detail["kind"] == "page"


def test_the_display_reads_until_it_is_revoked(page: web.Page) -> None:
    with page.browser(headers=HTML) as display, page.browser(headers=HTML) as another:
        answer = spend(display, page.link("display"))
        assert f"Max-Age={400 * 86400}" in answer.headers["set-cookie"]
        shown = display.get("/")
        assert shown.status_code == 200
        assert "Max-Age" in shown.headers["set-cookie"], "kept for longest from now on"
        assert display.get("/password").status_code == 403
        spend(another, page.link("display"))
        assert display.get("/").status_code == 303, "another browser is the display now"
        assert another.get("/").status_code == 200
        link.revoke(page.settings.state)
        assert another.get("/").status_code == 303


def test_who_logs_in_at_the_display_leaves_a_display_behind(page: web.Page) -> None:
    with page.browser(headers=HTML) as screen:
        spend(screen, page.link("display"))
        assert 'href="/login"' in screen.get("/").text
        name = page.account()
        log_in(screen, name)
        assert name in screen.get("/").text
        screen.post("/logout", data={"csrf": csrf(screen)})
        shown = screen.get("/")
        assert shown.status_code == 200
        assert name not in shown.text
        assert screen.post("/logout", data={"csrf": csrf(screen)}).status_code == 403


def test_a_cookie_under_the_name_of_another_kind_opens_nothing(page: web.Page) -> None:
    names = [f"scanside-{page.settings.web.port}{end}" for end in ("", "-display")]
    with page.browser(headers=HTML) as screen, page.logged_in(headers=HTML) as person:
        spend(screen, page.link("display"))
        swapped = [(names[0], screen.cookies[names[1]]), (names[1], person.cookies[names[0]])]
        for name, token in swapped:
            with page.browser(headers={**HTML, "cookie": f"{name}={token}"}) as thief:
                assert thief.get("/").status_code == 303
        assert (screen.get("/").status_code, person.get("/").status_code) == (200, 200)


def test_a_login_anew_ends_the_one_before_and_takes_no_cookie_that_was_brought(
    page: web.Page,
) -> None:
    name = f"scanside-{page.settings.web.port}"
    brought = "A" * 43
    with page.browser(headers=HTML) as browser:
        browser.cookies.set(name, brought, domain="127.0.0.1")
        log_in(browser, page.account())
        before = browser.cookies[name]
        log_in(browser, page.account())
        assert len({brought, before, browser.cookies[name]}) == 3
        assert browser.get("/").status_code == 200
    for token in (brought, before):
        with page.browser(headers={**HTML, "cookie": f"{name}={token}"}) as thief:
            assert thief.get("/").status_code == 303


# language and theme


def test_language_and_theme_are_kept_without_a_login(page: web.Page) -> None:
    with page.browser() as browser:
        assert 'lang="en" data-theme="dark"' in browser.get("/login").text
        back = browser.post("/look", data={"language": "zh", "back": "/login"})
        assert back.headers["location"] == "/login"
        browser.post("/look", data={"theme": "light"})
        assert 'lang="zh-Hans" data-theme="light"' in browser.get("/login").text


def test_a_look_that_is_none_changes_nothing(page: web.Page) -> None:
    with page.browser() as browser:
        for language in ("肺", "de", 'en"; Path=/x', "\r\nx: y", "\0"):
            answer = browser.post("/look", data={"language": language, "theme": language})
            assert answer.status_code == 303
            assert answer.headers["set-cookie"].startswith("scanside-look=en.dark;")


def test_a_name_without_end_costs_no_memory_and_is_no_name(page: web.Page) -> None:
    with page.browser() as browser:
        answer = browser.post("/login", data={"name": "x" * 60000, "password": "y"})
    assert answer.status_code == 401


def test_a_forged_look_is_the_usual_one(page: web.Page) -> None:
    with page.browser(cookies={"scanside-look": '"><script>.light.x'}) as browser:
        assert 'lang="en" data-theme="dark"' in browser.get("/login").text


def test_the_files_of_the_door_belong_to_the_stage_alone(page: web.Page) -> None:
    page.account()
    folder = page.settings.state / "web"
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}
    assert not [path for path in folder.iterdir() if PASSWORD in Path(path).read_text("latin-1")]
