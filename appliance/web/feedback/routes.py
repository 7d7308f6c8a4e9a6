"""The pages of feedback.

    POST /feedback               one act, or one comment, of who is logged in
    GET  /feedback/{report}      what was said of one report
    GET  /operating-point        what another threshold would have done; how often certainty held
    GET  /export/feedback.json   all acts and curves, as scanside.feedback/1
    GET  /export/coverage.json   how often certainty held, as scanside.coverage/1

Rules
- Everything works with forms alone; feedback.js sends the same forms without leaving the page.
- A form names a report, never a path: the report must be in the journal, and the finding in it.
- What could not be written is said so, with status 503: nobody must believe that an act was kept.
- Nothing here changes a bundle or a threshold.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Final

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from appliance.errors import StateUnusable
from appliance.host import facts
from appliance.quality import coverage
from appliance.quality.coverage import CoverageExport
from appliance.report import Millimetres3, Report, SeriesKey, Status
from appliance.results import operating
from appliance.results.feedback import Feedback, PlacePx, Read, of_report
from appliance.results.mqtt import Mqtt
from appliance.results.operating import FeedbackExport
from appliance.store import kept
from appliance.store.bell import ring
from appliance.store.journal import Journal
from appliance.store.journal.feedback import LONGEST_COMMENT, Heard
from appliance.web.access.rows import writing
from appliance.web.feedback import chart, views
from appliance.web.feedback.views import Shown, Where
from appliance.web.site import EVERYBODY, Role, Route, form, site, visitor

ACCOUNTS: Final[frozenset[Role]] = EVERYBODY - {"display"}
_VERDICTS: Final[frozenset[str]] = frozenset({"accept", "reject", "missed", "undo"})
_COMMENT: Final = "comment"
_READ: Final = {"read": True, "unread": False}
"""That all images of a report were read, and that this is taken back."""


def shown(request: Request, journal: Journal, report: Report, where: Where = "study") -> Shown:
    """What feedback.html draws: for the page of a study, which passes it as `feedback`."""
    return views.of_report(
        report,
        journal.feedback.of_report(report.report_id),
        journal.feedback.comments(report.report_id),
        journal.reads.counting(report.report_id),
        who=visitor(request),
        where=where,
    )


def page(request: Request) -> Response:
    """GET /feedback/{report}."""
    with _about(request, request.path_params["report"]) as (journal, report, _):
        feedback = shown(request, journal, report, "report")
    return site(request).render(request, "feedback_page.html", {"feedback": feedback})


def give(request: Request) -> Response:
    """POST /feedback: report, verdict (accept, reject, missed, undo, comment, read or unread), uid,
    and what the verdict is about: finding, undoes, x y z size_mm, image column row size_mm, or
    text."""
    sent = form(request)
    with _about(request, sent.get("report", "")) as (journal, report, key):
        series = journal.shown.name(key)
    if report.status is not Status.ANALYSED:
        raise HTTPException(400)
    where: Where = "report" if sent.get("page") == "report" else "study"
    try:
        if sent.get("verdict") == _COMMENT:
            heard = _remark(request, sent, report)
        elif sent.get("verdict") in _READ:
            heard = _finish(request, sent, report, series)
        else:
            heard = _say(request, sent, report, series)
    except StateUnusable as e:
        values = {"status": 503, "report": report, "where": where, "detail": e.code}
        return site(request).render(request, "feedback_lost.html", values)
    if heard is Heard.GONE:
        raise HTTPException(404)
    if heard is Heard.TOO_MANY:
        raise HTTPException(400)
    ring(site(request).settings.state, Mqtt.stage)
    return RedirectResponse(_address(report, where), 303)


def curves(request: Request) -> Response:
    """GET /operating-point."""
    with site(request).reading() as journal:
        acts = journal.feedback.all() if journal is not None else []
        reads = journal.reads.all() if journal is not None else []
        names = {} if journal is None else _names(journal, [*acts, *reads])
    found = [
        (curve, chart.of(curve), names.get(curve.bundle)) for curve in operating.of_bundles(acts)
    ]
    return site(request).render(
        request,
        "operating.html",
        {
            "curves": found,
            "held": [(one, names.get(one.bundle)) for one in coverage.of_bundles(acts, reads)],
            "width": chart.WIDTH,
            "height": chart.HEIGHT,
            "least_scans": operating.LEAST_SCANS,
            "least_marks": operating.LEAST_MARKS,
        },
    )


def export(request: Request) -> Response:
    """GET /export/feedback.json."""
    with site(request).reading() as journal:
        acts = journal.feedback.all() if journal is not None else []
    said = FeedbackExport(
        at=datetime.fromtimestamp(site(request).clock(), timezone.utc),
        appliance=facts.version(),
        feedback=tuple(acts),
        operating=operating.of_bundles(acts),
    )
    return _file(said, "scanside-feedback.json")


def held(request: Request) -> Response:
    """GET /export/coverage.json."""
    with site(request).reading() as journal:
        acts = journal.feedback.all() if journal is not None else []
        reads = journal.reads.all() if journal is not None else []
    said = CoverageExport(
        at=datetime.fromtimestamp(site(request).clock(), timezone.utc),
        appliance=facts.version(),
        bundles=coverage.of_bundles(acts, reads),
    )
    return _file(said, "scanside-coverage.json")


def _file(said: FeedbackExport | CoverageExport, name: str) -> Response:
    return Response(
        said.model_dump_json(by_alias=True, indent=1),
        media_type="application/json",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


@contextmanager
def _about(request: Request, report_id: str) -> Iterator[tuple[Journal, Report, SeriesKey]]:
    """The report of a form or an address, and its series; HTTPException 404 where there is none."""
    wanted = None
    with suppress(ValueError):
        wanted = uuid.UUID(report_id)
    with site(request).reading() as journal:
        if journal is None or str(wanted) != report_id:
            raise HTTPException(404)
        report, key = journal.reports.get(report_id), journal.reports.series_of(report_id)
        if report is None or key is None:
            raise HTTPException(404)
        yield journal, report, key


def _say(
    request: Request, sent: Mapping[str, str], report: Report, series: uuid.UUID | None
) -> Heard:
    """One act."""
    state, who = site(request).settings.state, visitor(request)
    scores = kept.scores(state, report.report_id)
    about: dict[str, object] = {}
    verdict = sent.get("verdict", "")
    if verdict not in _VERDICTS:
        raise HTTPException(400)
    if verdict == "missed":
        center, pixel, size = _place(sent, report)
        score = views.score_at(center, size, scores)
        about = {"center_lps_mm": center, "place_px": pixel, "size_mm": size, "score": score}
    elif verdict == "undo":
        about = {"undoes": sent.get("undoes")}
    else:
        finding = next((f for f in report.findings if str(f.id) == sent.get("finding")), None)
        if finding is None:
            raise HTTPException(400)
        about = {"finding": finding.id, "score": views.score_of(finding, scores)}
    try:
        said = Feedback.model_validate(
            {
                "uid": sent.get("uid"),
                "at": site(request).clock(),
                "study": report.study.pseudonym,
                "series": series,
                "report_id": report.report_id,
                "bundle": report.bundle.digest if report.bundle else None,
                "verdict": verdict,
                "role": who.role,
                "reader": who.reader,
                **about,
            }
        )
    except ValidationError as e:
        raise HTTPException(400) from e
    first = None if scores is None else of_report(scores, len(report.findings))
    with writing(state) as journal:
        return journal.feedback.say(said, first)


def _finish(
    request: Request, sent: Mapping[str, str], report: Report, series: uuid.UUID | None
) -> Heard:
    """That all images of a radiograph's report were read, or that this is taken back."""
    if views.placed(report) != "image":
        raise HTTPException(400)
    state, who = site(request).settings.state, visitor(request)
    scores = kept.scores(state, report.report_id)
    try:
        said = Read.model_validate(
            {
                "uid": sent.get("uid"),
                "at": site(request).clock(),
                "report_id": report.report_id,
                "series": series,
                "bundle": report.bundle.digest if report.bundle else None,
                "done": _READ[sent["verdict"]],
                "role": who.role,
                "reader": who.reader,
                "scores": None if scores is None else of_report(scores, len(report.findings)),
            }
        )
    except ValidationError as e:
        raise HTTPException(400) from e
    with writing(state) as journal:
        return journal.reads.say(said)


def _place(
    sent: Mapping[str, str], report: Report
) -> tuple[Millimetres3 | None, PlacePx | None, float]:
    """Where, in the patient or on a radiograph, and how large; HTTPException 400 where that is no
    place in the images."""
    try:
        if views.placed(report) == "image":
            pixel = PlacePx.model_validate(
                {
                    "image": int(sent["image"]),
                    "column": round(float(sent["column"]), 1),
                    "row": round(float(sent["row"]), 1),
                }
            )
            if pixel.image >= report.series.slices:
                raise HTTPException(400)
            return None, pixel, float(sent["size_mm"])
        x, y, z, size = (float(sent[name]) for name in ("x", "y", "z", "size_mm"))
    except (KeyError, ValueError) as e:  # of pydantic too
        raise HTTPException(400) from e
    center = (round(x, 2), round(y, 2), round(z, 2))
    if views.placed(report) != "patient" or not all(map(math.isfinite, (*center, size))):
        raise HTTPException(400)
    if not views.is_inside(report, center):
        raise HTTPException(400)
    return center, None, size


def _remark(request: Request, sent: Mapping[str, str], report: Report) -> Heard:
    """One comment. An empty one is none."""
    text, who = views.plain(sent.get("text", "")), visitor(request)
    number = sent.get("finding", "")
    finding = next((f.id for f in report.findings if str(f.id) == number), None)
    if (number and finding is None) or len(text) > LONGEST_COMMENT:
        raise HTTPException(400)
    if not text:
        return Heard.KNOWN
    with writing(site(request).settings.state) as journal:
        return journal.feedback.remark(
            report.report_id, finding, text, role=who.role, reader=who.reader
        )


def _address(report: Report, where: Where) -> str:
    """The page that is shown after an act."""
    if where == "report":
        return f"/feedback/{report.report_id}"
    return f"/study/{report.study.pseudonym}#feedback-{report.report_id}"


def _names(journal: Journal, acts: Sequence[Feedback | Read]) -> dict[str, str]:
    """Digest -> name and version of a bundle, as the newest report says that is still there."""
    newest = {act.bundle: act.report_id for act in acts if act.bundle is not None}
    found = {}
    for digest, report_id in newest.items():
        report = journal.reports.get(report_id)
        if report is not None and report.bundle is not None:
            found[digest] = f"{report.bundle.name} {report.bundle.version}"
    return found


ROUTES: Final = (
    Route("POST", "/feedback", give, EVERYBODY),
    Route("GET", "/feedback/{report}", page, EVERYBODY),
    Route("GET", "/operating-point", curves, ACCOUNTS, slow=True),
    Route("GET", "/export/feedback.json", export, ACCOUNTS, slow=True),
    Route("GET", "/export/coverage.json", held, ACCOUNTS, slow=True),
)
