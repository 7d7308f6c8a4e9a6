"""Every page of `scanside web` that a person looks at, and what makes it: for tests of all pages.

A part of the page adds a row to PAGES; `tests/appliance/web/test_app.py` holds that every address
that answers with a page has one. An address with a part in it ({study}) is made by the row's `make`
from the state folder that `state_with_everything` fills.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.web.site import Role
from rigs import beside, ward
from rigs.ward import Ward

_SERIES = "/study/{study}/series/{series}"
NOT_PAGES = frozenset(
    {
        "/assets/{name}",
        "/events",
        "/metrics",
        "/ledger.csv",
        "/export/feedback.json",
        "/export/coverage.json",
    }
    | {"/comparison/{comparison}/{pair}/{when}"}
    | {f"{_SERIES}/{what}" for what in ("images", "image/{number}", "masks", "map/{name}")}
)
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


def of(path: str, name: str) -> Callable[[Path], str]:
    """A page about one thing of `ward.a_day`."""
    return lambda state: f"{path}/{json.loads(_named(state).read_text())[name]}"


def _named(state: Path) -> Path:
    """Which study is which, and the report of the one with findings."""
    return state.with_name(f"{state.name}.day.json")


PAGES: tuple[Shown, ...] = (
    Shown("/login", None, at("/login")),
    Shown("/start", None, at("/start")),
    Shown("/password", "technologist", at("/password")),
    Shown("/", "technologist", at("/")),
    *(
        Shown("/study/{study}", "radiologist", of("/study", name))
        for name in ("arriving", "found", "in_part", "limits", "refused", "revised")
    ),
    Shown("/feedback/{report}", "radiologist", of("/feedback", "report")),
    Shown("/health", "service", at("/health")),
    Shown("/operating-point", "radiologist", at("/operating-point")),
    Shown("*", "radiologist", at("/nothing-is-here")),  # the page of what went wrong
)


def state_with_everything(state: Path) -> None:
    """Fill the state folder with what the pages above show."""
    with Ward(state) as at_work:
        day = ward.a_day(at_work, names=True)
        found = day["found"]
        beside.wait(at_work.journal, found.key, found.reports[-1])
        beside.commit(state, at_work.journal, beside.comparison(found.reports[-1]))
    names = {name: exam.study for name, exam in day.items()}
    names["report"] = str(day["found"].reports[-1].report_id)
    _named(state).write_text(json.dumps(names))
