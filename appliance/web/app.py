"""The application: the one table of addresses, and what every request and response is held to.

Rules
- An address is a row of a part's ROUTES, and `ROWS` is all of them. Nothing else is served.
- A request is checked before its page is called, in this order: host, origin and form of a POST,
  login, role, CSRF, first password (`access`). A page that names no roles is for anybody.
- A page waits for the journal for PATIENCE_MS (`site`) where another process has it locked: then it
  is the page of what went wrong, and nothing was written.
- A page is a plain function in a thread of a small pool (`PAGES`), so that no slow disk stops the
  loop that serves all; logins, which compute for long, have threads of their own (`SLOW`).
- Whatever goes wrong becomes a page in the reader's language that says what to do next, and nothing
  of what is inside: text and remedy of an error are for the role `service` and the log.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from urllib.parse import quote

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route as Served
from starlette.types import Message, Receive, Scope, Send

from appliance.errors import ScansideError, StateUnusable
from appliance.settings import Settings
from appliance.web import compared, feedback, health, live, metrics, serving, study, worklist
from appliance.web.access import checks, pages
from appliance.web.access.door import Door
from appliance.web.access.rows import Looks
from appliance.web.pixels import routes as pixels
from appliance.web.serving import Assets
from appliance.web.site import Route, Site, Visitor, asked_by_a_person

log = logging.getLogger(__name__)

ROWS: tuple[Route, ...] = (
    *serving.ROUTES,
    *pages.ROUTES,
    *worklist.ROUTES,
    *study.ROUTES,
    *pixels.ROUTES,
    *health.ROUTES,
    *live.ROUTES,
    *metrics.ROUTES,
    *feedback.ROUTES,
    *compared.ROUTES,
)
"""Every address, one row each."""
PAGES, SLOW = 8, 6
"""Threads."""
_FREE_BEFORE_PASSWORD = frozenset({"/password", "/logout", "/look"})


def application(
    settings: Settings, site: Site, assets: Assets, threads: anyio.CapacityLimiter
) -> Guard:
    """What uvicorn serves; pages run in `threads`. StateUnusable where web/ cannot be read."""
    made = Starlette(
        routes=_served(ROWS, threads),
        exception_handlers={
            HTTPException: _refused,
            ScansideError: _failed,
            Exception: _broken,
        },
    )
    made.router.redirect_slashes = False
    made.state.site = site
    made.state.assets = assets
    made.state.access = Door(settings)
    made.state.looks = Looks()
    return Guard(made, settings)


class Guard:
    """What holds of every request and response, whatever the page."""

    def __init__(self, app: Starlette, settings: Settings) -> None:
        self._app, self._web = app, settings.web

    def end_streams(self) -> None:
        """The stage ends: no stream of events keeps it."""
        live.end(self._app.state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                headers += checks.HEADERS
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(checks.NOT_KEPT)
                message = {**message, "headers": headers}
            await send(message)

        scope["app"] = self._app
        request = Request(scope)
        if not checks.host_is_ours(request.headers.get("host", ""), self._web):
            text = "This is no name of this device. An administrator adds it to [web] hosts.\n"
            await PlainTextResponse(text, 421)(scope, receive, guarded)
            return
        request.state.look = pages.look_of(request)
        await self._app(scope, receive, guarded)


def _served(rows: tuple[Route, ...], threads: anyio.CapacityLimiter) -> list[Served]:
    """The table as Starlette wants it: one entry a path, which knows its methods."""
    limits = {False: threads, True: anyio.CapacityLimiter(SLOW)}
    paths: dict[str, dict[str, Route]] = {}
    for row in rows:
        methods = paths.setdefault(row.path, {})
        if row.method in methods:
            raise ValueError(f"{row.method} {row.path} stands twice in the table of addresses")
        methods[row.method] = row
    return [
        Served(path, _endpoint(methods, limits), methods=list(methods))
        for path, methods in paths.items()
    ]


def _endpoint(
    methods: Mapping[str, Route], limits: Mapping[bool, anyio.CapacityLimiter]
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        row = methods["GET" if request.method == "HEAD" else request.method]
        if row.method == "POST":
            if not checks.comes_from_us(request):
                raise HTTPException(403)
            request.state.form = await checks.read_form(request)
        return await anyio.to_thread.run_sync(_page, row, request, limiter=limits[row.slow])

    return serve


def _page(row: Route, request: Request) -> Response:
    """One page, for who may see it."""
    door: Door = request.app.state.access
    # a page that asks for itself again keeps no login open; who says so can only shorten their own
    unasked = row.unasked or not asked_by_a_person(request)
    who = door.visitor(request, request.state.look, used=not unasked)
    request.state.visitor = who
    if row.roles is None:
        return row.page(request)
    if who is None:
        return _to_login(request, row)
    if row.method == "POST" and not checks.same(request.state.form.get("csrf", ""), who.csrf):
        raise HTTPException(403)
    if row.path not in _FREE_BEFORE_PASSWORD and door.first_password(who):
        return RedirectResponse("/password", 303)
    if who.role not in row.roles:
        raise HTTPException(403)
    response = row.page(request)
    if who.role == "display" and row.path == "/":
        door.keep(request, response)
    return response


def _to_login(request: Request, row: Route) -> Response:
    """A person is led to the login and back; a script is told."""
    if row.method == "POST" or "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(401)
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(back)}", 303)


# What went wrong, as a page.


def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    response = _error(request, status, "", "")
    if isinstance(error, HTTPException):
        response.headers.update(error.headers or {})
    return response


def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, ScansideError):
        return _broken(request, error)
    log.error("%s", error.one_line())
    status = 503 if isinstance(error, StateUnusable) else 500
    return _error(request, status, error.code, error.one_line())


def _broken(request: Request, error: Exception) -> Response:
    """Of our own making; the server logs its traceback."""
    return _error(request, 500, "error", type(error).__name__)


def _error(request: Request, status: int, code: str, detail: str) -> Response:
    if not hasattr(request.state, "visitor"):
        who: Visitor | None = None
        with suppress(ScansideError):
            who = request.app.state.access.visitor(request, request.state.look)
        request.state.visitor = who
    who = request.state.visitor
    known = status if status in _SAID else (503 if status >= 500 else 400)
    values = {
        "status": status,
        "said": known,
        "code": code,
        "detail": detail if who is not None and who.role == "service" else "",
    }
    site: Site = request.app.state.site
    return site.render(request, "error.html", values)


_SAID = frozenset({400, 401, 403, 404, 405, 413, 500, 503})
"""Statuses that text/LANGUAGE/access.json has words for, as error_STATUS and error_STATUS_do."""
