"""GET /: the list of studies, the newest first.

Rules
- It reads one page of studies and what belongs to them, whatever the number of studies here.
- Names are read only for who may see them, and only after the row that says that they look at
  them; where that row cannot be written, the list has no names and says so.
- Who opens the list mostly opens a study next: its page and what decodes its images are made ready.
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
from appliance.room.check import RoomCheck
from appliance.store import identities
from appliance.store.identities import Person
from appliance.store.journal import Journal
from appliance.store.journal.shown import GROUPS
from appliance.store.kept import ROOM, kept_record
from appliance.store.rows import Received, Study
from appliance.web import arriving, live
from appliance.web.access import rows as audit
from appliance.web.pixels import routes as pixels
from appliance.web.site import EVERYBODY, Route, asked_by_a_person, site, visitor
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
            values["scanners"] = journal.shown.scanners()
            values["some"] = journal.shown.any()
            found = journal.shown.studies(wanted, asked.behind, views.ROWS + 1) if wanted else []
            page = found[: views.ROWS]
            known = _known(journal, page, here.settings.state)
            if len(found) > len(page):
                values["next"] = asked.further(page[-1].place)
    known = replace(known, checks=checks(here.settings.state, known.latest))
    who = persons(request, {study.study_uid: study.pseudonym for study in page}, known.latest)
    values["nameless"] = who is None
    values["rows"] = views.rows(page, replace(known, persons=who or {}))
    if asked_by_a_person(request):
        here.prepare()
    pixels.warm(request)
    return here.render(request, "worklist.html", values)


def _known(journal: Journal, studies: Sequence[Study], state: Path) -> views.Known:
    """What the journal has of them."""
    uids = [study.study_uid for study in studies]
    shown = journal.shown
    return views.Known(
        arrived(state, shown.series(uids)), shown.latest(uids), shown.judged(uids), {}
    )


def arrived(state: Path, received: list[Received]) -> list[Received]:
    """The series, those that arrive with as many images as are here."""
    keys = [one.series.key for one in received if one.series.state == "open"]
    return arriving.counted(received, arriving.counts(state, keys[-arriving.MOST :]))


def checks(state: Path, latest: Sequence[tuple[SeriesKey, Report]]) -> dict[SeriesKey, RoomCheck]:
    """The in-room check of each series of which one is kept; of several the one to look at."""
    found: dict[SeriesKey, RoomCheck] = {}
    for key, report in latest:
        check = kept_record(state, report.report_id, ROOM, RoomCheck)
        if check is not None and (key not in found or check.verdict == "look"):
            found[key] = check
    return found


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
