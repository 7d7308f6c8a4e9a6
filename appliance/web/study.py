"""GET /study/{study}: all that is known of one study.

Rules
- What has no form of a pseudonym, and a study that was deleted meanwhile, is the same: it is not
  here (404).
- Names as in the work list.
- A report that was made with a tuning says so, and by how much that softens, as long as the tuning
  is kept here and can be read.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from appliance.errors import ScansideError
from appliance.report import Report, SeriesKey
from appliance.room.check import RoomCheck
from appliance.room.sentence import banner
from appliance.store import qa, tunings
from appliance.store.events import ImagesSetAside
from appliance.store.journal import Journal
from appliance.store.rows import Received
from appliance.web import compared, feedback, live
from appliance.web.pixels import routes as pixels
from appliance.web.site import EVERYBODY, Route, site
from appliance.web.views import study as views
from appliance.web.views.address import name_of, study_of
from appliance.web.views.study import KnownSeries
from appliance.web.views.words import Words
from appliance.web.worklist import arrived, checks, persons

_EVENTS = 500
"""The newest ones that are looked through."""


def study(request: Request) -> Response:
    """The page."""
    here, pseudonym = site(request), request.path_params["study"]
    archives, state = [one.name for one in here.settings.deliver], here.settings.state
    with here.reading() as journal:
        study_uid = study_of(journal, pseudonym) if journal is not None else None
        if journal is None or study_uid is None:
            raise HTTPException(404)
        seen = live.mark(journal, live.study(pseudonym), here.settings)
        latest = journal.shown.latest([study_uid])
        counting = views.by_series(latest)
        checked = checks(state, latest)
        late = _late(journal)
        known = [
            _known(journal, one, counting.get(one.series.key, []), archives, late, checked, state)
            for one in arrived(state, journal.shown.series([study_uid]))
        ]
        feedbacks = {
            report.report_id: feedback.shown(request, journal, report)
            for reports in counting.values()
            for report in reports
        }
        comparisons = {
            report.report_id: compared.shown(request, journal, report)
            for reports in counting.values()
            for report in reports
        }
    if not known:
        raise HTTPException(404)
    who = persons(request, {study_uid: pseudonym}, latest)
    person = None if who is None else who.get(study_uid)
    pixels.warm(request)
    values = {
        "shown": views.shown(pseudonym, known, person),
        "banner": banner,
        "words": Words(here.clock()),
        "nameless": who is None,
        "seen": seen,
        "feedbacks": feedbacks,
        "comparisons": comparisons,
        "softened": _softened(state),
    }
    return here.render(request, "study.html", values)


def _known(
    journal: Journal,
    one: Received,
    counting: list[Report],
    archives: list[str],
    late: dict[str, list[str]],
    checked: dict[SeriesKey, RoomCheck],
    state: Path,
) -> KnownSeries:
    key = one.series.key
    phantoms = (qa.kept(state, report.report_id) for report in counting)
    return KnownSeries(
        received=one,
        name=name_of(journal, key),
        reports=journal.reports.of_series(key),
        counting=counting,
        told=journal.shown.told(key),
        sent={
            str(report.report_id): journal.shown.sent(report.report_id, archives)
            for report in counting
        },
        late=late.get(key.series, []),
        check=checked.get(key),
        phantom=next((one for one in phantoms if one is not None), None),
    )


def _softened(state: Path) -> dict[str, str]:
    """By how many mm, of each tuning that was ever accepted here, by digest."""
    with suppress(ScansideError):
        return {one.tuning.digest: f"{one.tuning.soften_mm:g}" for one in tunings.kept(state)}
    return {}


def _late(journal: Journal) -> dict[str, list[str]]:
    """What is noted of images that were left out, by Series Instance UID."""
    found: dict[str, list[str]] = {}
    for happened in journal.events.of(ImagesSetAside, _EVENTS):
        found.setdefault(happened.event.subject, []).append(happened.event.text)
    return found


ROUTES = (Route("GET", "/study/{study}", study, EVERYBODY),)
