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
from dataclasses import replace
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
    page: list[Study] = []
    known = views.Known([], [], {}, {})
    with here.reading() as journal:
        if journal is not None:
            values["seen"] = live.mark(journal, live.LIST, here.settings)
            values["scanners"] = [sender.calling_ae for sender in journal.shown.senders()]
            values["some"] = journal.shown.count() > 0
            found = journal.shown.studies(wanted, asked.behind, views.ROWS + 1) if wanted else []
            page = found[: views.ROWS]
            known = _known(journal, page)
            if len(found) > len(page):
                values["next"] = asked.further(page[-1].place)
    who = persons(request, {study.study_uid: study.pseudonym for study in page}, known.latest)
    values["nameless"] = who is None
    values["rows"] = views.rows(page, replace(known, persons=who or {}))
    return here.render(request, "worklist.html", values)


def _known(journal: Journal, studies: Sequence[Study]) -> views.Known:
    """What the journal has of them."""
    uids = [study.study_uid for study in studies]
    shown = journal.shown
    return views.Known(shown.series(uids), shown.latest(uids), shown.judged(uids), {})


def persons(
    request: Request,
    pseudonyms: Mapping[str, str | None],
    latest: Sequence[tuple[SeriesKey, Report]],
) -> dict[str, Person] | None:
    """Who the patients of these studies are, by Study Instance UID, for who may know it; None where
    it cannot be written down that they look.

    pseudonyms: of the studies; latest: their reports. Not while the caller reads the journal: where
    no stage has it open, a reader keeps a writer out.
    """
    if not visitor(request).names or not pseudonyms:
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
