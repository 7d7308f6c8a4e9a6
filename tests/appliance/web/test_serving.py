"""The files of assets/: an address for each content, kept for ever; no name becomes a path."""

from __future__ import annotations

import hashlib

import pytest

from appliance.web import serving
from rigs import web

ASSETS = serving.read()


def test_an_address_names_the_content() -> None:
    address = ASSETS.address("page.css")
    body = ASSETS.bodies[address.rpartition("/")[2]]
    assert hashlib.sha256(body).hexdigest()[:16] in address
    with pytest.raises(KeyError):
        ASSETS.address("none.css")


def test_it_is_served_without_a_login_and_kept_for_ever(page: web.Page) -> None:
    with page.browser() as browser:
        answer = browser.get(ASSETS.address("page.css"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "name", ["page.css", "page.0000000000000000.css", "%2e%2e%2fapp.py", "..%5capp.py", "a%00.css"]
)
def test_any_other_name_is_not_there(page: web.Page, name: str) -> None:
    with page.browser() as browser:
        assert browser.get(f"/assets/{name}").status_code == 404
