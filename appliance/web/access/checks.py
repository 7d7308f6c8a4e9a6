"""What every request is held to before a page is asked: its host, its origin, its form.

Rules
- Host (RFC 9110 7.2) must be the address that the page listens at, a loopback name, or a name of
  `[web] hosts`: else a foreign name that leads to this machine (DNS rebinding) reads the page. The
  port is not compared: a tunnel has another one.
- A POST must come from our own page: Origin (RFC 6454), where a browser sends it, names the host
  of the request; Sec-Fetch-Site, where it sends that, says same-origin or none. With a session the
  form repeats `csrf`, a digest of the cookie that no other site can read.
- A form is urlencoded, at most FORM_BYTES, and comes within FORM_S.
- No header that a proxy may add (Forwarded, X-Forwarded-*) is read anywhere.
- Every response forbids what no page of ours needs (Content Security Policy Level 3): scripts and
  styles come from /assets alone, nothing is framed, no other site is asked for anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from appliance.settings import Web

FORM_BYTES = 65536
FORM_S = 15.0
FIELDS = 1000
CSP: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "font-src 'self'",
        "media-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Final = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    # not no-referrer: under that a browser sends `Origin: null` with our own forms
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
NOT_KEPT: Final = (b"cache-control", b"no-store")
"""Of every response that does not say how long it may be kept."""


def host_is_ours(host: str, web: Web) -> bool:
    """Whether the Host of a request is a name of this page."""
    if not host or any(sign in host for sign in " /\\@?#") or not host.isascii():
        return False
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name == "localhost" or name in {one.lower() for one in web.hosts}:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    # no name can stand for an address, so any address of this machine is ours where all are heard
    listens = ipaddress.ip_address(web.host)
    return address.is_loopback or listens.is_unspecified or address == listens


def comes_from_us(request: Request) -> bool:
    """Whether this POST can only come from a page of ours, as far as the browser tells."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host')}":
        return False
    return request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}


def csrf_of(token: str) -> str:
    """What the forms of a session repeat; `token`: what its cookie holds."""
    return hashlib.sha256(b"csrf\0" + token.encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    """Compared in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def is_loopback(request: Request) -> bool:
    """Whether it comes from this machine."""
    if request.client is None:
        return False
    address = ipaddress.ip_address(request.client.host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


async def read_form(request: Request) -> Mapping[str, str]:
    """The values of a POST. HTTPException 400, 408, 413 or 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415)
    body = bytearray()

    async def receive() -> None:
        async for part in request.stream():
            body.extend(part)
            if len(body) > FORM_BYTES:
                raise HTTPException(413)

    try:
        await asyncio.wait_for(receive(), FORM_S)
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS,
        )
    except asyncio.TimeoutError as e:
        raise HTTPException(408) from e
    except (ClientDisconnect, ValueError) as e:
        # it hung up; or it is not ASCII, not UTF-8 behind the escapes, or has too many fields
        raise HTTPException(400) from e
    return dict(pairs)
