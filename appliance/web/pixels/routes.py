"""The addresses of images: what the viewer of a browser fetches.

    GET /study/{study}/series/{series}/images            JSON: places, planes, windows
    GET /study/{study}/series/{series}/image/{number}    HU, int16 little-endian, or grey of 8 bits;
                                    with ?count=N those behind it too, X-Count of them
    GET /study/{study}/series/{series}/masks             JSON: findings with their outlines
    GET /study/{study}/series/{series}/map/{name}        JSON: a heat map on its radiograph

Rules
- `study` and `series` are derived names, which views/address resolves; a number and the name of a
  map are looked for among those that are there. Nothing of an address becomes a path.
- `?report=ID` says which result of the series is meant (`chosen`): 404 where it is none of its.
- `?of=NAME` on an image says of which listing it is (images.Listing.name): 410 where that one is
  not held any more and the images are others now.
- 404: there is no such thing. 410: it was there. 422: it cannot be shown, and why. 503: later. Each
  is JSON with `code` and `text`; no UID and no path is in it.
- Several images are of one size, and at most RUN_BYTES: the answer ends before one that is of
  another size or cannot be shown, which asked for alone says why.
- Nothing of this is stored by a browser (no-store): pixels are a patient's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from appliance.errors import Poisoned, Refuse, Retry, ScansideError
from appliance.report import NOTICE, Record
from appliance.web.pixels import giving_way, marks
from appliance.web.pixels.asked import Answered, Place
from appliance.web.pixels.chosen import Choice, Chosen, chosen
from appliance.web.pixels.decoder import Decoder
from appliance.web.pixels.images import Gone, Images, Listing
from appliance.web.pixels.listing import WINDOWS, No, Window, no_planes
from appliance.web.pixels.marks import Mark
from appliance.web.site import EVERYBODY, Route, asked_by_a_person, site

NO_STORE: Final = {"cache-control": "no-store"}
RUN_BYTES: Final = 2 << 20
"""Of several images in one answer."""
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,5}")
_MAP: Final = re.compile(r"[a-z0-9-]{1,64}")
_once = Lock()


class Listed(Record):
    """One image of /images: its place, or why it cannot be shown."""

    place: Place | None
    error: str | None = None


class ImagesPage(Record):
    """What /images says."""

    name: str
    images: tuple[Listed, ...]
    no_planes: No | None
    windows: tuple[Window, ...]
    notice: str | None
    """Of the bundle, where it has another one than every page has."""


class MasksPage(Record):
    """What /masks says."""

    name: str
    report: str | None
    """The report whose findings these are: its report_id."""
    findings: tuple[Mark, ...]
    results: tuple[Choice, ...] = ()
    """Which results of the series can be shown, this one among them."""
    damaged: bool = False
    """What was kept of the findings cannot be read: there are no outlines."""


class _Unknown(Refuse):
    code = "not_found"
    remedy = "Go back to the list of studies."


def warm(request: Request) -> None:
    """Somebody is about to look at images: what decodes them starts while the page is made, or
    while a person reads the list. A page that keeps itself fresh starts nothing."""
    if asked_by_a_person(request):
        images_of(request).warm()


def images(request: Request) -> Response:
    """GET .../images."""

    def page() -> Response:
        found = _listing(request)
        notice = None if found.report is None else found.report.notice
        made = ImagesPage(
            name=found.name,
            images=tuple(Listed(place=one.place, error=one.error) for one in found.frames),
            no_planes=no_planes(found.frames),
            windows=WINDOWS,
            notice=None if notice == NOTICE else notice,
        )
        return _json(made)

    return _answered(page)


def image(request: Request) -> Response:
    """GET .../image/{number}."""

    def page() -> Response:
        of = request.query_params.get("of")
        known = None if of is None else images_of(request).named(_address(request), of)
        found = known or _listing(request)
        if of is not None and of != found.name:
            raise Gone("the images of this series have changed", code="images_changed")
        number = request.path_params["number"]
        if not _NUMBER.fullmatch(number) or int(number) >= len(found.frames):
            raise _Unknown("there is no such image")
        made, pixels = _run(request, found, int(number))
        headers = {
            **NO_STORE,
            "x-count": str(len(pixels)),
            "x-rows": str(made.rows),
            "x-columns": str(made.columns),
            "x-bits": str(made.bits),
        }
        return Response(b"".join(pixels), media_type="application/octet-stream", headers=headers)

    return _answered(page)


def _run(request: Request, of: Listing, number: int) -> tuple[Answered, list[bytes]]:
    """An image and, as `count` asks for, those behind it: what all of them are, and the pixels of
    each. What goes wrong with the first one is raised."""
    count = request.query_params.get("count", "1")
    if not _NUMBER.fullmatch(count):
        raise _Unknown("there is no such number of images")
    images = images_of(request)
    made, pixels = images.image(of, number)
    found = [pixels]
    for n in range(number + 1, min(number + int(count), len(of.frames))):
        if (len(found) + 1) * len(pixels) > RUN_BYTES:
            break
        try:
            said, more = images.image(of, n)
        except (Refuse, Poisoned, Retry):
            break
        if (said.rows, said.columns, said.bits) != (made.rows, made.columns, made.bits):
            break
        found.append(more)
    return made, found


def masks(request: Request) -> Response:
    """GET .../masks."""

    def page() -> Response:
        asked = _asked(request)
        found = _listed(request, asked)
        if found.report is None:
            return _json(MasksPage(name=found.name, report=None, findings=()))
        try:
            bodies, damaged = images_of(request).bodies(found.report), False
        except Poisoned:
            bodies, damaged = {}, True
        made = marks.marks(found.report.findings, bodies, found.frames)
        said = MasksPage(
            name=found.name,
            report=str(found.report.report_id),
            findings=made,
            results=asked.choices,
            damaged=damaged,
        )
        return _json(said)

    return _answered(page)


def heat_map(request: Request) -> Response:
    """GET .../map/{name}."""

    def page() -> Response:
        found, name = _listing(request), request.path_params["name"]
        finding = None
        if found.report is not None and _MAP.fullmatch(name):
            finding = next((f for f in found.report.findings if f.heat_map == name), None)
        if found.report is None or finding is None or finding.key_image >= len(found.frames):
            raise _Unknown("there is no such heat map")
        place = found.frames[finding.key_image].place
        kept = marks.of_map(name, images_of(request).maps(found.report))
        if kept is None or place is None or place.to_stored is None:
            raise Gone("this heat map was not kept")
        return _json(marks.heat(kept.values, kept.to_stored, place.to_stored))

    return _answered(page)


def _listing(request: Request) -> Listing:
    return _listed(request, _asked(request))


def _listed(request: Request, asked: Chosen) -> Listing:
    return images_of(request).listing(_address(request), asked.key, asked.report)


def _address(request: Request) -> tuple[str, str]:
    return request.path_params["study"], request.path_params["series"]


def _asked(request: Request) -> Chosen:
    """Series and result of the address; _Unknown where there is none."""
    study, series = _address(request)
    with site(request).reading() as journal:
        report = request.query_params.get("report")
        found = None if journal is None else chosen(journal, study, series, report)
    if found is None:
        raise _Unknown("there is no such series in this study, or no such result of it")
    return found


def images_of(request: Request) -> Images:
    """Of this application; made when it is first asked for."""
    state = request.app.state
    with _once:
        if not hasattr(state, "images"):
            folder = site(request).settings.state
            state.images = Images(folder, Decoder(give_way=partial(giving_way.wait, folder)))
        found: Images = state.images
        return found


def _answered(page: Callable[[], Response]) -> Response:
    """The page, or what an error of this part says; any other is for the application."""
    try:
        return page()
    except Gone as e:
        return _error(e, 410)
    except _Unknown as e:
        return _error(e, 404)
    except (Refuse, Poisoned) as e:
        return _error(e, 422)
    except Retry as e:
        return _error(e, 503)


def _error(error: ScansideError, status: int) -> Response:
    headers = {**NO_STORE, "retry-after": "1"} if status == 503 else NO_STORE
    said = {"code": error.code, "text": error.text, "remedy": error.remedy}
    return JSONResponse(said, status, headers=headers)


def _json(page: Record) -> Response:
    return Response(
        page.model_dump_json().encode(), media_type="application/json", headers=NO_STORE
    )


_AT: Final = "/study/{study}/series/{series}"
ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", f"{_AT}/images", images, EVERYBODY),
    Route("GET", f"{_AT}/image/{{number}}", image, EVERYBODY),
    Route("GET", f"{_AT}/masks", masks, EVERYBODY),
    Route("GET", f"{_AT}/map/{{name}}", heat_map, EVERYBODY),
)
