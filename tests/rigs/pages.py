"""Every page of `scanside web` that a person looks at, and what makes it: for tests of all pages.

A part of the page adds a row to PAGES; `tests/appliance/web/test_app.py` holds that every address
that answers with a page has one. An address with a part in it ({study}) is made by the row's `make`
from the state folder that `state_with_everything` fills.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.web.site import Role

NOT_PAGES = frozenset({"/assets/{name}", "/events", "/metrics"})
"""Addresses of GET that answer with something else; add those that scripts read."""


@dataclass(frozen=True)
class Shown:
    """One page."""

    route: str
    """As the table of addresses has it."""
    role: Role | None
    """Who looks at it; None: nobody is logged in."""
    make: Callable[[Path], str]
    """State folder -> address, as a browser asks for it."""
    ready: str = "true"
    """JavaScript that is true once the page shows what it has."""


def at(path: str) -> Callable[[Path], str]:
    return lambda _: path


PAGES: tuple[Shown, ...] = (
    Shown("/login", None, at("/login")),
    Shown("/start", None, at("/start")),
    Shown("/password", "technologist", at("/password")),
    Shown("/", "technologist", at("/")),
    Shown("*", "radiologist", at("/nothing-is-here")),  # the page of what went wrong
)


def state_with_everything(state: Path) -> None:
    """Fill the state folder with what the pages above show."""
    state.mkdir(parents=True, exist_ok=True)
