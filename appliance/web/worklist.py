"""The first page: so far it says that the box is there."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.web.site import EVERYBODY, Route, site


def worklist(request: Request) -> Response:
    """GET /."""
    with site(request).reading() as journal:
        series = 0 if journal is None else len(journal.series.all())
    return site(request).render(request, "home.html", {"series": series})


ROUTES = (Route("GET", "/", worklist, EVERYBODY),)
