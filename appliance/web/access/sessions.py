"""Who is logged in: state/web/sessions.json, and the same in memory.

Rules
- A session is 256 random bits in a cookie. Only their SHA-256 is at rest, so that who reads the
  file is logged in as nobody.
- It ends `[web] session_hours` after it began and `idle_minutes` after it was last used, whatever
  is done to the clock (`moment`); the one of the attached display goes on until it is revoked.
- That it was used is written down once a minute at most: a power cut makes it at most so much
  older, and no page waits for the disk.
- At most MOST, and MOST_EACH of one account, the newest: the oldest ends where one more begins. So
  nobody logs the others out, nor unbinds the display, by logging in again and again.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from appliance.errors import StateUnusable
from appliance.report import Record
from appliance.store.files import DISK, Disk
from appliance.web.access import moment
from appliance.web.access.kept import Kept
from appliance.web.access.moment import Moment
from appliance.web.site import Role

log = logging.getLogger(__name__)

MOST = 500
MOST_EACH = 50
"""Of one account; of the display and of the demo's links together in the same way."""
WRITTEN_EVERY_S = 60.0
Kind = Literal["account", "page", "display"]
"""How it was opened: a password, the demo's link, the link of the attached display."""


class Session(Record):
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of what the cookie holds."""
    kind: Kind
    role: Role
    """Of an account it is the account's own, which may change."""
    account: str | None
    mark: str
    """Of the account's password, or of the display's permission: with another one it has ended."""
    began: Moment
    used: Moment


class Open(Record):
    """The file."""

    sessions: tuple[Session, ...] = ()


class Sessions:
    """The sessions of a stage. `now`: for the tests, which have no hours to wait."""

    def __init__(
        self,
        state: Path,
        *,
        lasts_s: float,
        idle_s: float,
        now: Callable[[], Moment] = moment.now,
        disk: Disk = DISK,
    ) -> None:
        self._kept = Kept(state, "sessions.json", Open, disk)
        self._lasts_s, self._idle_s, self._now = lasts_s, idle_s, now
        self._turn = threading.Lock()
        self._open = {one.id: one for one in self._kept.now().sessions}
        self._written = now()

    def begin(self, kind: Kind, role: Role, account: str | None, mark: str) -> tuple[str, Session]:
        """A new one, durable when this returns; with what its cookie holds. StateUnusable."""
        token = secrets.token_urlsafe(32)
        at = self._now()
        session = Session(
            id=name_of(token), kind=kind, role=role, account=account, mark=mark, began=at, used=at
        )
        with self._turn:
            before = dict(self._open)
            self._open[session.id] = session
            self._drop_ended(at)
            try:
                self._write(at)
            except StateUnusable:
                self._open = before
                raise
        return token, session

    def of(self, token: str, *, used: bool = True) -> Session | None:
        """The session that this cookie opens; used: it was used now. None: it has ended, or there
        never was one."""
        at = self._now()
        with self._turn:
            found = self._open.get(name_of(token))
            if found is None or self._ended(found, at):
                return None
            if not used:
                return found
            self._open[found.id] = found.model_copy(update={"used": at})
            if self._written.age_s(at) >= WRITTEN_EVERY_S:
                self._drop_ended(at)
                try:
                    self._write(at)
                except StateUnusable as e:  # it goes on in memory
                    self._written = at
                    log.error("%s", e.one_line())
        return found

    def end(self, session_id: str) -> None:
        """It ends now. StateUnusable, where a start of the stage would bring it back."""
        with self._turn:
            if self._open.pop(session_id, None) is not None:
                self._write(self._now())

    def _ended(self, one: Session, at: Moment) -> bool:
        if one.kind == "display":
            return False
        return one.began.age_s(at) > self._lasts_s or one.used.age_s(at) > self._idle_s

    def _drop_ended(self, at: Moment) -> None:
        number: Counter[tuple[Kind, str | None]] = Counter()
        kept: list[Session] = []
        for one in reversed(self._open.values()):  # the newest first
            number[one.kind, one.account] += not self._ended(one, at)
            if not self._ended(one, at) and number[one.kind, one.account] <= MOST_EACH:
                kept.append(one)
        self._open = {one.id: one for one in reversed(kept[:MOST])}

    def _write(self, at: Moment) -> None:
        self._kept.change(lambda _: Open(sessions=tuple(self._open.values())))
        self._written = at


def name_of(token: str) -> str:
    """What is known of a cookie at rest."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
