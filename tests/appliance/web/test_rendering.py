"""Templates: what a sender or a reader wrote is text, never markup."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from starlette.requests import Request

from appliance.web import serving
from appliance.web.rendering import Renderer
from appliance.web.site import Look, Visitor

RENDER = Renderer(serving.read(), ("en", "zh"))
MARKUP = '"><script>alert(1)</script>\u202ex'


def asked(language: str = "en", visitor: Visitor | None = None) -> Request:
    request = Request({"type": "http", "method": "GET", "path": "/x", "headers": [],
                       "query_string": b"", "server": ("h", 80), "scheme": "http"})  # fmt: skip
    request.state.look = Look("zh" if language == "zh" else "en", "dark")
    request.state.visitor = visitor
    return request


def test_markup_in_a_value_is_shown_as_it_was_written() -> None:
    page = RENDER(asked(), "login.html", {"next": MARKUP, "problem": None})
    text = bytes(page.body).decode()
    assert "<script>alert" not in text
    assert "&#34;&gt;&lt;script&gt;" in text


def test_a_page_is_in_the_language_of_the_reader_and_says_the_notice() -> None:
    english = bytes(RENDER(asked(), "login.html", {"next": "/", "problem": None}).body).decode()
    chinese = bytes(RENDER(asked("zh"), "login.html", {"next": "/", "problem": None}).body).decode()
    assert 'lang="en"' in english
    assert "Research use, not for clinical use" in english
    assert 'lang="zh-Hans"' in chinese
    assert "仅供研究，不得用于临床" in chinese


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        RENDER(asked(), "login.html", {"next": "/"})


def test_the_status_is_that_of_the_values() -> None:
    assert RENDER(asked(), "start.html", {"problem": None, "status": 403}).status_code == 403
