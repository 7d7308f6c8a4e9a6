"""The addresses of comparisons.

Rules
- A comparison is looked for in the journal and a pair in the comparison: nothing of an address
  becomes a path. What is not there any more is 404.
- Cubes are made into pictures by the process that decodes (pixels/child.py), which has no journal.
  A picture that cannot be shown now is 503, one that never can is 404; no browser stores one.
- That a pair is right or wrong is one row in the journal (store/journal/pairs.py), by any role, as
  feedback is. It changes no report and no comparison.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Final, cast, get_args

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from appliance.comparison import Comparison
from appliance.errors import Refuse, Retry
from appliance.report import Report
from appliance.store import kept
from appliance.store.journal import Journal
from appliance.store.journal.feedback import Heard
from appliance.store.journal.pairs import Judged, PairVerdict
from appliance.web.access.rows import writing
from appliance.web.compared import views
from appliance.web.compared.picture import png
from appliance.web.compared.views import Shown
from appliance.web.pixels import routes as pixels
from appliance.web.pixels.asked import When
from appliance.web.site import EVERYBODY, Route, form, site, visitor

_VERDICTS: Final = get_args(PairVerdict)
_WHEN: Final = get_args(When)


def shown(request: Request, journal: Journal, report: Report) -> Shown | None:
    """What compared.html draws for the page of a study, which passes it as `compared`."""
    row = journal.comparisons.row(report.report_id)
    standing = journal.comparisons.standing(report.report_id)
    state = site(request).settings.state
    return views.of_report(
        report,
        standing,
        journal.pairs.of_report(report.report_id),
        journal.pairs.counting(report.report_id),
        who=visitor(request),
        waiting=row is not None and row.state == "waiting" and not row.prior_only,
        drawn={
            one.comparison_id
            for one in standing
            if kept.cubes_path(state, one.report_id, one.comparison_id).is_file()
        },
    )


def picture(request: Request) -> Response:
    """GET /comparison/{comparison}/{pair}/{when}."""
    asked = request.path_params
    comparison, place = _comparison(request, asked["comparison"]), _number(asked["pair"])
    if asked["when"] not in _WHEN or place >= len(comparison.findings):
        raise HTTPException(404)
    try:
        made, grey = pixels.images_of(request).planes(comparison, place, cast(When, asked["when"]))
    except Retry as e:
        raise HTTPException(503, headers={"retry-after": "1"}) from e
    except Refuse as e:
        raise HTTPException(404) from e
    return Response(
        png(made.rows, made.columns, grey), media_type="image/png", headers=pixels.NO_STORE
    )


def judge(request: Request) -> Response:
    """POST /pair: comparison, pair, verdict (right, wrong or undo) and uid."""
    sent, who = form(request), visitor(request)
    comparison = _comparison(request, sent.get("comparison", ""))
    pair = views.pair_of(comparison, _number(sent.get("pair", "")))
    if pair is None or sent.get("verdict") not in _VERDICTS:
        raise HTTPException(400)
    try:
        uid = uuid.UUID(sent.get("uid", ""))
    except ValueError as e:
        raise HTTPException(400) from e
    said = Judged(
        uid=uid,
        at=site(request).clock(),
        report_id=comparison.report_id,
        pair=pair,
        verdict=cast(PairVerdict, sent["verdict"]),
        role=who.role,
        reader=who.reader,
    )
    with writing(site(request).settings.state) as journal:
        heard = journal.pairs.say(said)
    if heard is Heard.GONE:
        raise HTTPException(404)
    if heard is Heard.TOO_MANY:
        raise HTTPException(400)
    return RedirectResponse(f"/study/{comparison.study}#pairs-{comparison.report_id}", 303)


def _comparison(request: Request, named: str) -> Comparison:
    """HTTPException 404 where there is none of this id."""
    wanted = None
    with suppress(ValueError):
        wanted = uuid.UUID(named)
    with site(request).reading() as journal:
        found = None if journal is None or wanted is None else journal.comparisons.get(wanted)
    if found is None:
        raise HTTPException(404)
    return found


def _number(said: str) -> int:
    """HTTPException 404 where it is none."""
    if not (said.isascii() and said.isdecimal() and len(said) < 4):
        raise HTTPException(404)
    return int(said)


ROUTES: Final = (
    Route("GET", "/comparison/{comparison}/{pair}/{when}", picture, EVERYBODY),
    Route("POST", "/pair", judge, EVERYBODY),
)
