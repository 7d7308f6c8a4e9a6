"""Who asks: from the cookie of a request to a Visitor, and who is let in.

Rules
- A visitor is known by the cookie alone. What it opens is looked at anew with each request: a
  removed account, another password and a display that was revoked end a session at once.
- A session that no account has (the demo's link, the display) is good on this machine alone and
  shows no names.
- Names are for NAMED, and only where `[web] names` keeps them.
- The attached display has a cookie of its own below that of a person: who logs in at the bedside
  sees names there, and after their logout, or when they were idle for too long, the screen is the
  display again. A session counts only under the cookie of its kind.
- Who logs in anew ends the login that this browser had before.
- A cookie is HttpOnly and SameSite=Strict (RFC 6265bis), under TLS also Secure and __Host-. Its
  name holds the port: cookies of one host are those of all its ports.
"""

from __future__ import annotations

import re
import time
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.web.access import checks, link, names, rows
from appliance.web.access.accounts import Account, Accounts
from appliance.web.access.backoff import Backoff
from appliance.web.access.sessions import Kind, Session, Sessions, name_of
from appliance.web.site import Look, Role, Visitor

NAMED: Final[frozenset[Role]] = frozenset({"technologist", "radiologist"})
DISPLAY_KEPT_S: Final = 400 * 86400
"""The longest that a browser keeps a cookie (RFC 6265bis 5.5); each page of the display asks for
it anew."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Door:
    """`app.state.access`."""

    def __init__(self, settings: Settings) -> None:
        web = settings.web
        self._settings = settings
        self._key = names.key(settings.state)
        self.accounts = Accounts(settings.state)
        self.sessions = Sessions(
            settings.state, lasts_s=web.session_hours * 3600, idle_s=web.idle_minutes * 60
        )
        self.backoff = Backoff(time.monotonic)
        self._secure = web.tls is not None
        self.cookie = f"{'__Host-' if self._secure else ''}scanside-{web.port}"
        self.display_cookie = f"{self.cookie}-display"

    def visitor(self, request: Request, look: Look, *, used: bool = True) -> Visitor | None:
        """Who asks; None without a session that goes on. used: a person asked, which keeps the
        session from ending of idleness. StateUnusable."""
        person = self._by_cookie(request, self.cookie, look, used=used)
        return person or self._by_cookie(request, self.display_cookie, look, used=used)

    def _by_cookie(
        self, request: Request, cookie: str, look: Look, *, used: bool
    ) -> Visitor | None:
        token = request.cookies.get(cookie, "")
        if not _TOKEN.fullmatch(token):
            return None
        session = self.sessions.of(token, used=used)
        if session is None or (session.kind == "display") != (cookie == self.display_cookie):
            return None
        role: Role | None = session.role
        if session.kind == "account":
            account = self.accounts.named(session.account or "")
            role = account.role if account is not None and account.mark == session.mark else None
        elif not checks.is_loopback(request):
            return None
        elif session.kind == "display" and link.display(self._settings.state) != session.mark:
            role = None
        if role is None:
            self.sessions.end(session.id)
            return None
        return self._visitor(session, role, token, look)

    def first_password(self, who: Visitor) -> bool:
        """Whether they have to change the password that a terminal printed, before all else."""
        account = self.accounts.named(who.account) if who.account is not None else None
        return account is not None and account.first

    def let_in(self, request: Request, response: Response, account: Account) -> None:
        """A session of this account, with its row; its cookie goes with the response.

        StateUnusable: then nobody is let in.
        """
        self._begin(request, response, "account", account.role, account.name, account.mark)

    def let_in_by_link(self, request: Request, response: Response, spent: link.Link) -> None:
        """The same for who spent a link."""
        self._begin(request, response, spent.kind, spent.role, None, spent.id)

    def keep(self, request: Request, response: Response) -> None:
        """The cookie of the display, to be kept for longest from now on."""
        self._give(response, "display", request.cookies[self.display_cookie])

    def let_out(self, request: Request, response: Response) -> None:
        """The session of a person ends, with its row. StateUnusable where one of both fails."""
        who: Visitor = request.state.visitor
        self.sessions.end(name_of(request.cookies[self.cookie]))
        rows.logout(self._settings.state, who)
        response.delete_cookie(self.cookie, secure=self._secure, httponly=True, samesite="strict")

    def _begin(
        self,
        request: Request,
        response: Response,
        kind: Kind,
        role: Role,
        account: str | None,
        mark: str,
    ) -> None:
        token, session = self.sessions.begin(kind, role, account, mark)
        who = self._visitor(session, role, token, request.state.look)
        address = request.client.host if request.client is not None else "-"
        try:
            rows.login(self._settings.state, who, kind, address)
        except StateUnusable:
            self.sessions.end(session.id)
            raise
        before = request.cookies.get(self._cookie_of(kind), "")
        if _TOKEN.fullmatch(before):
            self.sessions.end(name_of(before))
        self._give(response, kind, token)

    def _cookie_of(self, kind: Kind) -> str:
        return self.display_cookie if kind == "display" else self.cookie

    def _give(self, response: Response, kind: Kind, token: str) -> None:
        response.set_cookie(
            self._cookie_of(kind),
            token,
            max_age=DISPLAY_KEPT_S if kind == "display" else None,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )

    def _visitor(self, session: Session, role: Role, token: str, look: Look) -> Visitor:
        by_account = session.account is not None
        reader = session.account if session.account is not None else f"\0{session.kind}"
        return Visitor(
            role=role,
            reader=names.reader(self._key, reader),
            session=names.session(self._key, session.id),
            account=session.account,
            names=by_account and role in NAMED and self._settings.web.names,
            csrf=checks.csrf_of(token),
            language=look.language,
            theme=look.theme,
        )
