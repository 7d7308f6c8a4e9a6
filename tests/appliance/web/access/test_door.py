"""Who asks: what a cookie opens, from where, and whether names are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from appliance.settings import Settings
from appliance.web.access import link
from appliance.web.access.accounts import AccountRole
from appliance.web.access.door import Door
from appliance.web.site import Look

LOOK = Look("en", "dark")


def request_of(cookie: str = "", client: str = "127.0.0.1") -> Request:
    request = Request(
        {
            "type": "http", "method": "GET", "path": "/", "query_string": b"", "scheme": "http",
            "server": ("127.0.0.1", 8042), "client": (client, 5),
            "headers": [(b"cookie", cookie.encode())],
        }
    )  # fmt: skip
    request.state.look = LOOK
    return request


def door(state: Path, *, names: bool = True) -> Door:
    return Door(Settings.model_validate({"state": state, "web": {"names": names}}))


def cookie_of(response: Response) -> str:
    return response.headers["set-cookie"].partition(";")[0]


def entered(at: Door, role: AccountRole) -> str:
    """The cookie of a fresh account of this role."""
    at.accounts.add(role, role)
    response = Response()
    at.let_in(request_of(), response, at.accounts.must(role))
    return cookie_of(response)


@pytest.mark.parametrize(
    ("role", "names"), [("technologist", True), ("radiologist", True), ("service", False)]
)
def test_names_are_for_those_who_care_for_patients_and_only_where_they_are_kept(
    tmp_path: Path, role: AccountRole, names: bool
) -> None:
    for kept in (True, False):
        at = door(tmp_path / str(kept), names=kept)
        who = at.visitor(request_of(entered(at, role)), LOOK)
        assert who is not None
        assert (who.role, who.account, who.names) == (role, role, names and kept)


@pytest.mark.parametrize("kind", ["page", "display"])
def test_what_no_account_opened_is_good_on_this_machine_alone_and_shows_no_names(
    tmp_path: Path, kind: link.Kind
) -> None:
    at = door(tmp_path)
    settings = Settings(state=tmp_path)
    spent = link.spend(tmp_path, link.make(settings, kind).partition("#")[2])
    assert spent is not None
    response = Response()
    at.let_in_by_link(request_of(), response, spent)
    cookie = cookie_of(response)
    who = at.visitor(request_of(cookie), LOOK)
    assert who is not None
    assert (who.account, who.names) == (None, False)
    assert at.visitor(request_of(cookie, client="192.0.2.7"), LOOK) is None
    assert at.visitor(request_of(cookie), LOOK) == who, "who asked from elsewhere ended nothing"


def test_another_role_counts_at_the_next_request(tmp_path: Path) -> None:
    at = door(tmp_path)
    cookie = entered(at, "technologist")
    path = tmp_path / "web" / "users.json"
    path.write_text(path.read_text().replace('"role": "technologist"', '"role": "service"'))
    who = at.visitor(request_of(cookie), LOOK)
    assert who is not None
    assert (who.role, who.names) == ("service", False)


def test_a_reader_has_one_name_in_every_session_and_each_session_its_own(tmp_path: Path) -> None:
    at = door(tmp_path)
    cookies = [entered(at, "technologist")]
    response = Response()
    at.let_in(request_of(), response, at.accounts.must("technologist"))
    cookies.append(cookie_of(response))
    one, other = (at.visitor(request_of(cookie), LOOK) for cookie in cookies)
    assert one is not None
    assert other is not None
    assert one.reader == other.reader
    assert one.session != other.session
    assert one.csrf != other.csrf


@pytest.mark.parametrize("cookie", ["", "scanside-8042=", "scanside-8042=" + "x" * 43, "a=b;c"])
def test_without_a_session_there_is_no_visitor(tmp_path: Path, cookie: str) -> None:
    assert door(tmp_path).visitor(request_of(cookie), LOOK) is None
