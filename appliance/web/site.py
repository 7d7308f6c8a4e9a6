"""What every page of `scanside web` is given: the site it shows, and who looks at it.

Rules
- A page is a plain function, request -> response, run in a thread of a small pool: it may read the
  journal, and it may wait for the disk. It changes nothing but through the narrow modules that say
  so (looks, feedback, accounts).
- Who asks was decided before the page is called (access/); a page reads `visitor(request)`, never a
  cookie, and the values of a form from `form(request)`, which are bounded and checked for CSRF.
- Addresses hold derived ids alone: the pseudonym of a study and the published name of a series. No
  UID of DICOM, and nothing else that a sender chose, is a part of an address or of a path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from starlette.requests import Request
from starlette.responses import Response

from appliance.settings import Settings
from appliance.store.journal import Journal

PATIENCE_MS: Final = 500
"""So long a page waits for the journal where another process has it locked. Then it says that it
cannot: who waits longer keeps a thread of all pages, and a person who taps again."""
UNASKED: Final = "x-scanside-unasked"
"""Header of what a script asks for and no person (assets/live.js)."""
Role = Literal["display", "technologist", "radiologist", "service"]
"""display: the attached screen of the room, which reads and gives feedback, without names."""
Language = Literal["en", "zh"]
Theme = Literal["dark", "light"]


@dataclass(frozen=True, slots=True)
class Look:
    """How a browser is shown its pages, with or without a login (`request.state.look`)."""

    language: Language
    theme: Theme


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at a page, once access/ has let them in."""

    role: Role
    reader: str
    """Keyed id of the account, hex: what a row about it says of the reader, never the name."""
    session: str
    """Keyed id of the session, hex: one login. It is no secret and opens nothing."""
    account: str | None
    """The name they log in with; None for the display and the demo's link."""
    names: bool
    """Whether this visitor may see patients' names: [web] names and the role allow it."""
    csrf: str
    """What each form has to send back as `csrf`."""
    language: Language
    theme: Theme


@dataclass(frozen=True, slots=True)
class Site:
    """What the stage opened once, for all pages."""

    settings: Settings
    reading: Callable[[], AbstractContextManager[Journal | None]]
    """The journal for who only reads; None where there is none yet. StateUnusable as
    `Journal.read`; the application makes a page of it."""
    render: Callable[[Request, str, Mapping[str, Any]], Response]
    """A template of pages/ by its file name, with values: HTML, escaped, in the visitor's
    language."""
    clock: Callable[[], float]
    """Seconds since 1970, UTC."""
    prepare: Callable[[], None] = lambda: None
    """Called when a person is about to go on to another page: it is made ready meanwhile."""


def site(request: Request) -> Site:
    return cast(Site, request.app.state.site)


def asked_by_a_person(request: Request) -> bool:
    """Whether a person opened the page; a page that asks for itself again says so (UNASKED)."""
    return UNASKED not in request.headers


def visitor(request: Request) -> Visitor:
    """Who asks; only in pages whose route names roles."""
    return cast(Visitor, request.state.visitor)


def still_in(request: Request) -> bool:
    """Whether who asked may still see what they asked for: their login goes on, and the account is
    there. For a page that goes on for long, such as a stream of events."""
    access = request.app.state.access
    now = access.visitor(request, request.state.look, used=False)
    return bool(now == request.state.visitor)


def form(request: Request) -> Mapping[str, str]:
    """The values that a POST sent, urlencoded, at most 64 kB; the last of doubles counts."""
    return cast("Mapping[str, str]", request.state.form)


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table of addresses (app.py)."""

    method: Literal["GET", "POST"]
    path: str
    """As Starlette writes it, such as /study/{study}."""
    page: Callable[[Request], Response]
    roles: frozenset[Role] | None
    """Who may; None: anybody, also without a login."""
    slow: bool = False
    """It works for longer than a disk lets wait, so its threads are none of the other pages'."""
    unasked: bool = False
    """A page asks for it by itself: that keeps no login from ending of idleness."""


EVERYBODY: frozenset[Role] = frozenset({"display", "technologist", "radiologist", "service"})
"""Everybody who is logged in, and the display."""
