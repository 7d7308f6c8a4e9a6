"""The library of scanners on the page of health; POST /health/watch: what service decides of a row.

Rules
- What is decided is a row of the audit, which `work` obeys when it is idle (store/library.py): this
  stage writes nothing else, and the page says that it was noted.
- A form names a row, never a path: the row must be there, with an alarm that is open.
- What could not be written is an error of the page: nobody must believe that it was noted.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from appliance.settings import Settings
from appliance.store import hint, library, probed
from appliance.store.hint import Hint
from appliance.store.journal import Journal
from appliance.store.library import Library
from appliance.web.access import rows
from appliance.web.site import Route, form, site, visitor
from appliance.web.views.watching import ShownLibrary, shown

ACTIONS: Final = {"acknowledge": library.ACKNOWLEDGE, "accept": library.ACCEPT}


def look(settings: Settings, journal: Journal | None) -> ShownLibrary:
    """All rows, with what waits for `work` and what implants say."""
    acts = journal.audit.of(library.ACTS) if journal is not None else []
    return shown(Library(settings.state).all(), acts, probed.all_of(settings.state))


def decide(request: Request) -> Response:
    """One act of service: `row`, and `verb`: acknowledge or accept."""
    sent, state, who = form(request), site(request).settings.state, visitor(request)
    action = ACTIONS.get(sent.get("verb", ""))
    row = sent.get("row", "")
    found = next((one for one in Library(state).all().today if one.id == row), None)
    if action is None or found is None:
        raise HTTPException(404)
    if not found.row.alarms:
        raise HTTPException(400)
    with rows.writing(state) as journal:
        journal.audit.add(rows.ACTOR, action, row=row, reader=who.reader, role=who.role)
    hint.send(state, Hint(ordered=True))
    return RedirectResponse("/health#watch", 303)


ROUTES: Final = (Route("POST", "/health/watch", decide, frozenset({"service"})),)
