"""GET /: the list of studies, the newest first.

Rules
- It reads one page of studies and what belongs to them, whatever the number of studies here.
- Names are read only for who may see them, and only after the row that says that they look at
  them; where that row cannot be written, the list has no names and says so.
- `seen` is the mark of what was read: the stream of events (`live`) says when it is another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from appliance.errors import StateUnusable
from appliance.report import Report, SeriesKey
from appliance.store import identities
from appliance.store.identities import Person
from appliance.store.journal import Journal
from appliance.store.journal.shown import GROUPS
from appliance.store.rows import Study
from appliance.web import live
from appliance.web.access import rows as audit
from appliance.web.site import EVERYBODY, Route, site, visitor
from appliance.web.views import worklist as views
from appliance.web.views.words import Words


def worklist(request: Request) -> Response:
    """The page."""
    here = site(request)
    asked = views.asked(request.query_params)
    now = here.clock()
    wanted = asked.wanted(views.midnight_before(now, time.localtime(now).tm_gmtoff))
    values: dict[str, object] = {
        "asked": asked,
        "groups": ["", *GROUPS],
        "words": Words(now),
        "rows": (),
        "next": None,
        "scanners": (),
        "some": False,
        "nameless": False,
        "seen": "",
    }
    with here.reading() as journal:
        if journal is not None:
            values["seen"] = live.mark(journal, live.LIST, here.settings)
            values["scanners"] = [sender.calling_ae for sender in journal.shown.senders()]
            values["some"] = journal.shown.count() > 0
            if wanted is not None:
                found = journal.shown.studies(wanted, asked.behind, views.ROWS + 1)
                page = found[: views.ROWS]
                known, values["nameless"] = _known(request, journal, page)
                values["rows"] = views.rows(page, known)
                if len(found) > len(page):
                    values["next"] = asked.further(page[-1].place)
    return here.render(request, "worklist.html", values)


def _known(
    request: Request, journal: Journal, studies: Sequence[Study]
) -> tuple[views.Known, bool]:
    """What the journal has of them, and whether their names should be there and cannot be."""
    uids = [study.study_uid for study in studies]
    latest = journal.shown.latest(uids)
    found = persons(request, {s.study_uid: s.pseudonym for s in studies}, latest)
    known = views.Known(journal.shown.series(uids), latest, journal.shown.judged(uids), found or {})
    return known, found is None


def persons(
    request: Request,
    pseudonyms: Mapping[str, str | None],
    latest: Sequence[tuple[SeriesKey, Report]],
) -> dict[str, Person] | None:
    """Who the patients of these studies are, by Study Instance UID, for who may know it; None where
    it cannot be written down that they look.

    pseudonyms: of the studies; latest: their reports.
    """
    if not visitor(request).names:
        return {}
    try:
        audit.look(request, [name for name in pseudonyms.values() if name is not None])
    except StateUnusable:
        return None
    return _read(site(request).settings.state, latest)


def _read(state: Path, latest: Sequence[tuple[SeriesKey, Report]]) -> dict[str, Person]:
    found: dict[str, Person] = {}
    for key, report in latest:
        if key.study not in found:
            person = identities.read(state, report.report_id)
            if person is not None:
                found[key.study] = person
    return found


ROUTES = (Route("GET", "/", worklist, EVERYBODY),)
