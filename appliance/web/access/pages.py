"""The pages of the door: /login, /logout, /password, /start, and /look for language and theme."""

from __future__ import annotations

import math
import re
from typing import Final, get_args

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from appliance.web.access import checks, link, passwords, rows
from appliance.web.access.door import Door
from appliance.web.site import Look, Role, Route, Theme, form, site, visitor
from appliance.web.text.say import wanted as wanted_language

LOOK_COOKIE: Final = "scanside-look"
THEMES: Final[tuple[Theme, ...]] = get_args(Theme)
_LONGEST_NAME: Final = 64
_YEAR_S: Final = 365 * 86400
_PATH: Final = re.compile(r"/(?![/\\])[!-\[\]-~]{0,500}")
PEOPLE: Final[frozenset[Role]] = frozenset({"technologist", "radiologist", "service"})


def login(request: Request) -> Response:
    """GET /login."""
    wanted = safe_path(request.query_params.get("next", "/"))
    return site(request).render(request, "login.html", {"next": wanted, "problem": None})


def log_in(request: Request) -> Response:
    """POST /login: name, password, next."""
    door: Door = request.app.state.access
    sent, state = form(request), site(request).settings.state
    # what is longer is no name, and pauses are remembered under it
    name = sent.get("name", "").strip().lower()[:_LONGEST_NAME]
    password = sent.get("password", "")
    wanted = safe_path(sent.get("next", "/"))
    address = request.client.host if request.client is not None else "-"

    def again(problem: str, status: int, **values: object) -> Response:
        page = {"next": wanted, "problem": problem, "status": status, **values}
        return site(request).render(request, "login.html", page)

    if (wait := door.backoff.wait_s(name, address)) > 0:
        response = again("access.wait", 429, seconds=math.ceil(wait))
        response.headers["retry-after"] = str(math.ceil(wait))
        return response
    try:
        account = door.accounts.known(name, password)
    except passwords.Busy:
        return again("access.busy", 503)
    if account is None:
        door.backoff.failed(name, address)
        rows.failed(state, address, known=door.accounts.named(name) is not None)
        return again("access.wrong", 401)
    door.backoff.worked(name, address)
    response = RedirectResponse("/password" if account.first else wanted, 303)
    door.let_in(request, response, account)
    return response


def log_out(request: Request) -> Response:
    """POST /logout."""
    response = RedirectResponse("/login", 303)
    request.app.state.access.let_out(request, response)
    return response


def password(request: Request) -> Response:
    """GET /password."""
    door: Door = request.app.state.access
    page = {"problem": None, "first": door.first_password(visitor(request))}
    return site(request).render(request, "password.html", page)


def change_password(request: Request) -> Response:
    """POST /password: old, new, again. Every session of the account ends, and this one is anew."""
    door: Door = request.app.state.access
    sent, who = form(request), visitor(request)
    name = who.account or ""
    address = request.client.host if request.client is not None else "-"

    def again(problem: str, status: int = 400, **values: object) -> Response:
        page = {"problem": problem, "first": door.first_password(who), "status": status, **values}
        return site(request).render(request, "password.html", page)

    if (wait := door.backoff.wait_s(name, address)) > 0:
        return again("access.wait", 429, seconds=math.ceil(wait))
    fresh = sent.get("new", "")
    if fresh != sent.get("again", ""):
        return again("access.differ")
    if passwords.weak(fresh, name) or fresh == sent.get("old"):
        return again("access.weak", least=passwords.LEAST)
    try:
        if door.accounts.known(name, sent.get("old", "")) is None:
            door.backoff.failed(name, address)
            return again("access.wrong_old", 401)
        rows.account(
            site(request).settings.state, rows.ACTOR, "password", name, who.role, who.reader
        )
        account = door.accounts.change(name, fresh)
    except passwords.Busy:
        return again("access.busy", 503)
    response = RedirectResponse("/", 303)
    door.let_in(request, response, account)
    return response


def start(request: Request) -> Response:
    """GET /start: the page of a link, which takes the secret out of the address (assets/start.js)
    and waits for the press of its button."""
    return site(request).render(request, "start.html", {"problem": None})


def spend(request: Request) -> Response:
    """POST /start: secret."""
    door: Door = request.app.state.access
    problem = {"problem": "access.link_spent", "status": 403}
    if not checks.is_loopback(request):
        return site(request).render(request, "start.html", problem)
    spent = link.spend(site(request).settings.state, form(request).get("secret", ""))
    if spent is None:
        return site(request).render(request, "start.html", problem)
    response = RedirectResponse("/", 303)
    door.let_in_by_link(request, response, spent)
    return response


def change_look(request: Request) -> Response:
    """POST /look: language, theme, back."""
    sent, now = form(request), request.state.look
    offered = site(request).settings.web.languages
    language = next((one for one in offered if one == sent.get("language")), now.language)
    theme = next((one for one in THEMES if one == sent.get("theme")), now.theme)
    response = RedirectResponse(safe_path(sent.get("back", "/")), 303)
    response.set_cookie(
        LOOK_COOKIE,
        f"{language}.{theme}",
        max_age=_YEAR_S,
        httponly=True,
        samesite="strict",
        secure=site(request).settings.web.tls is not None,
    )
    return response


def look_of(request: Request) -> Look:
    """Language and theme: what the browser chose here before, else what it asks for; dark."""
    offered = site(request).settings.web.languages
    language, _, theme = request.cookies.get(LOOK_COOKIE, "").partition(".")
    chosen = next((one for one in offered if one == language), None)
    asked = request.headers.get("accept-language", "")
    return Look(chosen or wanted_language(asked, offered), "light" if theme == "light" else "dark")


def safe_path(path: str) -> str:
    """A path of this page, or / where it is none: a form leads nobody to another site."""
    return path if _PATH.fullmatch(path) else "/"


ROUTES = (
    Route("GET", "/login", login, None),
    Route("POST", "/login", log_in, None, slow=True),
    Route("POST", "/logout", log_out, PEOPLE),
    Route("GET", "/password", password, PEOPLE),
    Route("POST", "/password", change_password, PEOPLE, slow=True),
    Route("GET", "/start", start, None),
    Route("POST", "/start", spend, None),
    Route("POST", "/look", change_look, None),
)
