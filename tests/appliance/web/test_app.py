"""The application at the real stage: what every request and response is held to."""

from __future__ import annotations

import socket

import pytest

from appliance.web import app
from appliance.web.site import Route
from rigs import pages, web
from rigs.peers import HANG_S
from rigs.web import csrf

HTML = {"accept": "text/html"}


def test_every_response_forbids_what_no_page_needs(page: web.Page) -> None:
    with page.browser() as browser:
        for path in ("/login", "/nothing", "/assets/none.css"):
            headers = browser.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"], path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "server" not in headers


def test_a_foreign_host_is_told_the_line_to_change_and_nothing_else(page: web.Page) -> None:
    with page.browser(headers={"host": "evil.example"}) as browser:
        answer = browser.get("/login")
    assert answer.status_code == 421
    assert "[web] hosts" in answer.text
    assert "Scanside" not in answer.text


def test_what_a_proxy_says_of_the_client_changes_nothing(page: web.Page) -> None:
    said = {
        "x-forwarded-for": "192.0.2.1",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "https",
        "forwarded": "for=192.0.2.1;host=evil.example",
    }
    with page.browser(headers=said | HTML) as browser:
        answer = browser.get("/")
    assert answer.headers["location"] == "/login?next=/"


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
)
def test_a_post_of_another_site_is_refused(page: web.Page, headers: dict[str, str]) -> None:
    posts = [row.path for row in app.ROWS if row.method == "POST"]
    assert {"/login", "/logout", "/start"} <= set(posts)
    with page.logged_in() as browser:
        form = {"csrf": csrf(browser)}
        for path in posts:
            assert browser.post(path, data=form, headers=headers).status_code == 403, path
        assert browser.get("/").status_code == 200


def test_a_form_without_the_token_of_its_session_is_refused(page: web.Page) -> None:
    with page.logged_in() as browser:
        for token in ("", "0" * 64, "é"):
            assert browser.post("/logout", data={"csrf": token}).status_code == 403
        assert browser.get("/").status_code == 200


@pytest.mark.parametrize("cookie", ["", "x" * 43, "../../key", "%00", "x" * 4000])
def test_a_forged_cookie_is_no_login(page: web.Page, cookie: str) -> None:
    name = f"scanside-{page.settings.web.port}"
    with page.browser(headers=HTML | {"cookie": f"{name}={cookie}"}) as browser:
        assert browser.get("/").status_code == 303


def test_a_form_of_more_than_64_kilobytes_is_refused_with_a_page(page: web.Page) -> None:
    with page.browser() as browser:
        answer = browser.post("/login", data={"name": "x" * 70000})
    assert answer.status_code == 413
    assert "This is too long" in answer.text


def test_what_strangers_send_cut_short_or_is_no_request_writes_nothing_into_the_log(
    page: web.Page,
) -> None:
    port, before = page.settings.web.port, page.log.read_text()
    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 30\r\n"
    for sent in (
        b"POST /login HTTP/1.1\r\nHost: localhost\r\n" + form + b"\r\nname=anna",
        b"GET /login HTTP/1.1\r\n\r\n",
        b"GET /login HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), HANG_S) as peer:
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: peer.recv(65536), b"")) is not None
    with page.browser() as browser:
        assert browser.get("/login").status_code == 200
    assert page.log.read_text() == before


@pytest.mark.parametrize(
    "path",
    ["/..", "/%2e%2e/etc/passwd", "/assets/..%2f..%2fapp.py", "/%00", "/nothing/../key", "/a%ff"],
)
def test_a_path_that_is_none_is_a_page_that_says_so(page: web.Page, path: str) -> None:
    with socket.create_connection(("127.0.0.1", page.settings.web.port), HANG_S) as peer:
        peer.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    assert b"This page is not there" in answer


def test_a_wrong_method_and_a_wrong_role_are_pages_too(page: web.Page) -> None:
    with page.logged_in(headers=HTML) as browser:
        assert browser.put("/login").status_code == 405
        assert "cannot be done here" in browser.delete("/").text


def test_what_went_wrong_is_said_in_the_language_of_the_reader(page: web.Page) -> None:
    with page.browser(headers={"accept-language": "zh-CN"}) as browser:
        answer = browser.get("/nothing")
    assert answer.status_code == 404
    assert "页面不存在" in answer.text


def test_an_address_stands_in_the_table_once() -> None:
    row = app.ROWS[0]
    with pytest.raises(ValueError, match="twice"):
        app._served(
            (row, Route(row.method, row.path, row.page, None)), app.anyio.CapacityLimiter(1)
        )


def test_only_the_door_and_what_pages_load_are_open_to_anybody() -> None:
    open_to_all = {row.path for row in app.ROWS if row.roles is None}
    assert open_to_all <= {"/assets/{name}", "/login", "/start", "/look", "/metrics"}


def test_every_address_that_shows_a_page_is_looked_at_by_the_tests_of_all_pages() -> None:
    shown = {row.path for row in app.ROWS if row.method == "GET"} - pages.NOT_PAGES
    assert shown <= {one.route for one in pages.PAGES}, "add a row to tests/rigs/pages.py"


def test_every_status_that_has_words_of_its_own_has_them() -> None:
    from appliance.web.text import say  # noqa: PLC0415

    known = say.texts("en")
    assert all(f"access.error_{one}" in known for one in app._SAID)
    assert all(f"access.error_{one}_do" in known for one in app._SAID)
