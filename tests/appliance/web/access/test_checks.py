"""What every request is held to: its host, its origin, its form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from appliance.settings import Web
from appliance.web.access import checks

LOOPBACK = Web()
TLS = {"certificate": "a.pem", "key": "b.pem"}
EVERYWHERE = Web.model_validate({"host": "::", "tls": TLS, "hosts": ["CT1.ward.example"]})
ONE = Web.model_validate({"host": "192.0.2.7", "tls": TLS})


@pytest.mark.parametrize(
    ("host", "web"),
    [
        ("127.0.0.1:8042", LOOPBACK),
        ("localhost", LOOPBACK),
        ("localhost:9000", LOOPBACK),
        ("[::1]:8042", LOOPBACK),
        ("ct1.ward.example:8042", EVERYWHERE),
        ("CT1.ward.example.", EVERYWHERE),
        ("192.0.2.7", EVERYWHERE),
        ("192.0.2.7:8042", ONE),
    ],
)
def test_a_host_that_is_ours_is_heard(host: str, web: Web) -> None:
    assert checks.host_is_ours(host, web)


@pytest.mark.parametrize(
    ("host", "web"),
    [
        ("", LOOPBACK),
        ("evil.example", LOOPBACK),
        ("127.0.0.1.evil.example", LOOPBACK),
        ("192.0.2.7", LOOPBACK),
        ("evil.example", EVERYWHERE),
        ("ct1.ward.example.evil.example", EVERYWHERE),
        ("192.0.2.8", ONE),
        ("localhost@evil.example", LOOPBACK),
        ("evil.example#localhost", LOOPBACK),
        ("localhost/..", LOOPBACK),
        ("lоcalhost", LOOPBACK),  # the second letter is Cyrillic
        ("[::1", LOOPBACK),
        ("2130706433", LOOPBACK),
    ],
)
def test_any_other_host_is_not(host: str, web: Web) -> None:
    assert not checks.host_is_ours(host, web)


def asked(body: bytes = b"", client: str = "127.0.0.1", **headers: str) -> Request:
    given = {"host": "127.0.0.1:8042", **{k.replace("_", "-"): v for k, v in headers.items()}}
    parts: Iterator[bytes] = iter([body[:40000], body[40000:]])

    async def receive() -> dict[str, Any]:
        part = next(parts)
        return {"type": "http.request", "body": part, "more_body": part == body[:40000]}

    return Request(
        {
            "type": "http", "method": "POST", "path": "/", "query_string": b"", "scheme": "http",
            "server": ("127.0.0.1", 8042), "client": (client, 5),
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        },
        receive,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:8042"}, True),
        ({"origin": "https://127.0.0.1:8042"}, False),
        ({"origin": "http://127.0.0.1:9999"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
    ],
)
def test_a_post_from_another_site_is_told_from_ours(headers: dict[str, str], ours: bool) -> None:
    assert checks.comes_from_us(asked(**headers)) is ours


@pytest.mark.parametrize(
    ("client", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.7", False),
        ("fe80::1%eth0", False),
    ],
)
def test_this_machine_is_told_by_the_address_alone(client: str, here: bool) -> None:
    request = asked(client=client, x_forwarded_for="127.0.0.1", forwarded="for=127.0.0.1")
    assert checks.is_loopback(request) is here


FORM = "application/x-www-form-urlencoded"


def read(body: bytes, kind: str = FORM) -> dict[str, str]:
    return dict(asyncio.run(checks.read_form(asked(body, content_type=kind))))


def test_a_form_is_read_and_the_last_of_doubles_counts() -> None:
    assert read(b"a=1&b=%E8%82%BA+x&a=2&c=", FORM + "; charset=utf-8") == {
        "a": "2",
        "b": "肺 x",
        "c": "",
    }


def test_a_form_of_64_kilobytes_is_read_and_one_byte_more_is_not() -> None:
    assert len(read(b"a=" + b"x" * (checks.FORM_BYTES - 2))["a"]) == checks.FORM_BYTES - 2
    with pytest.raises(HTTPException) as raised:
        read(b"a=" + b"x" * (checks.FORM_BYTES - 1))
    assert raised.value.status_code == 413


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"a=%FF", FORM, 400),
        (b"a=\xff", FORM, 400),
        (b"&".join([b"a=1"] * 1001), FORM, 400),
        (b"{}", "application/json", 415),
        (b"", "", 415),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: str, status: int) -> None:
    with pytest.raises(HTTPException) as raised:
        read(body, kind)
    assert raised.value.status_code == status


def test_a_form_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "FORM_S", 0.01)

    async def never() -> dict[str, Any]:
        await asyncio.sleep(3600)
        raise AssertionError

    request = Request(asked(content_type=FORM).scope, never)
    with pytest.raises(HTTPException) as raised:
        asyncio.run(checks.read_form(request))
    assert raised.value.status_code == 408


def test_no_page_may_load_from_elsewhere_or_be_framed() -> None:
    for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in checks.CSP
    assert "unsafe" not in checks.CSP
    assert "http" not in checks.CSP
