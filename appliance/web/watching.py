"""The library of scanners on the page of health; POST /health/watch: what service decides of a row.

Rules
- What is decided is a row of the audit, which `work` obeys when it is idle (store/library.py): this
  stage writes nothing else, and the page says that it was noted.
- A form names a row, never a path: the row must be there, with an alarm that is open, a proposal
  that can be accepted or a tuning in force. A tuning that has no row is named as one. A form that
  accepts a tuning says which softening the page showed (`mm`).
- What could not be written is an error of the page: nobody must believe that it was noted.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from appliance.settings import Settings
from appliance.store import hint, library, probed, tunings
from appliance.store.hint import Hint
from appliance.store.journal import Journal
from appliance.store.library import Library
from appliance.web.access import rows
from appliance.web.site import Route, form, site, visitor
from appliance.web.views.watching import ShownLibrary, shown

ACTIONS: Final = {
    "acknowledge": library.ACKNOWLEDGE,
    "accept": library.ACCEPT,
    "tune": library.TUNE,
    "withdraw": library.WITHDRAW,
}


def look(settings: Settings, journal: Journal | None, now: float) -> ShownLibrary:
    """All rows, with what waits for `work`, what it refused and what implants say. now: seconds
    since 1970."""
    acts = journal.audit.of(library.ACTS_AND_ANSWERS) if journal is not None else []
    listed, state = Library(settings.state).all(), settings.state
    return shown(listed, acts, probed.all_of(state), tunings.readable(state), now=now)


def decide(request: Request) -> Response:
    """One act of service: `row`, and `verb`, one of ACTIONS."""
    sent, state, who = form(request), site(request).settings.state, visitor(request)
    action = ACTIONS.get(sent.get("verb", ""))
    row = sent.get("row", "")
    there = look(site(request).settings, None, site(request).clock()).rows
    found = next((one for one in there if one.id == row and not one.former), None)
    if action is None or found is None:
        raise HTTPException(404)
    mm = sent.get("mm", "")
    possible = {
        library.TUNE: bool(found.offers_mm) and found.offers_mm == mm,
        library.WITHDRAW: found.tuned,
    }
    if not possible.get(action, bool(found.alarms)):
        raise HTTPException(400)
    detail = {"tuning": found.tuning} if found.tuning else {"row": row}
    if action == library.TUNE:
        detail["soften_mm"] = mm
    with rows.writing(state) as journal:
        journal.audit.add(rows.ACTOR, action, **detail, reader=who.reader, role=who.role)
    hint.send(state, Hint(ordered=True))
    return RedirectResponse("/health#watch", 303)


ROUTES: Final = (Route("POST", "/health/watch", decide, frozenset({"service"})),)
