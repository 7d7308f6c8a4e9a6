"""The one place where the page writes into the journal: who came, who looked, who left.

Rules
- The journal is opened for one row and closed again: everything else that the stage does, it does
  with a journal that it cannot write. What gives feedback writes through `writing` too.
- A row comes before what it allows: no login and no name without its row. Where it cannot be
  written, StateUnusable, of which the application makes a page.
- Pages write one after the other: each waits longer for its turn than who opens the journal in a
  hurry would, and of two pages that look at the same time only the first writes the row.
- A row names the reader and the session by keyed ids (`names`), and the studies by pseudonym.
- A failed login is a rationed event: who fails all day fills no disk. Where the journal does not
  take it, the log of the stage has it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.requests import Request

from appliance.errors import StateUnusable
from appliance.store.events import LoginFailed
from appliance.store.journal import Journal, Manner
from appliance.web.site import PATIENCE_MS, Visitor, site, visitor

log = logging.getLogger(__name__)

ACTOR = "web"
LOGIN, LOGOUT, LOOK = "web_login", "web_logout", "web_look"
"""Actions of the audit."""
_MOST = 2000
"""Sessions whose looks are remembered."""
WAIT_S = 5.0
_one_writes = threading.Lock()


@contextmanager
def writing(state: Path) -> Iterator[Journal]:
    """The journal, for one row. StateUnusable (journal_not_ready) where it is not known to be
    whole: that is the matter of `work`; StateUnusable also after WAIT_S without a turn, and where
    another process keeps it locked (`site.PATIENCE_MS`)."""
    if not _one_writes.acquire(timeout=WAIT_S):
        raise StateUnusable(
            "too many pages write into the journal at this moment",
            remedy="Try again in a moment.",
            code="journal_busy",
        )
    try:
        with Journal.open(state, manner=Manner.HURRY, busy_ms=PATIENCE_MS) as journal:
            yield journal
    finally:
        _one_writes.release()


def login(state: Path, who: Visitor, kind: str, address: str) -> None:
    """Somebody is let in. `kind`: account, page or display."""
    with writing(state) as journal:
        journal.audit.add(ACTOR, LOGIN, **_of(who), kind=kind, address=address)


def logout(state: Path, who: Visitor) -> None:
    with writing(state) as journal:
        journal.audit.add(ACTOR, LOGOUT, **_of(who))


def account(state: Path, actor: str, verb: str, name: str, role: str, reader: str) -> None:
    """An account is added, reset or removed on a terminal, or its owner chooses a password: the
    only rows with the name of an account."""
    with writing(state) as journal:
        journal.audit.add(actor, f"web_user_{verb}", account=name, role=role, reader=reader)


def display(state: Path, actor: str, verb: str) -> None:
    """On a terminal, a link for the attached display was made, or its permission taken back."""
    with writing(state) as journal:
        journal.audit.add(actor, f"web_display_{verb}")


def failed(state: Path, address: str, *, known: bool) -> None:
    """Somebody is not let in; never raises."""
    try:
        with writing(state) as journal:
            journal.events.add_rationed(LoginFailed(subject=address, known=known))
    except StateUnusable as e:
        log.warning("a login from %s failed; %s", address, e.one_line())


class Looks:
    """Which studies each session has looked at with names, since the stage started: a start more
    costs a row more, never one less."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._seen: OrderedDict[str, set[str]] = OrderedDict()

    def new(self, session: str, studies: Iterable[str]) -> list[str]:
        with self._turn:
            seen = self._seen.get(session, set())
            return sorted(set(studies) - seen)

    def noted(self, session: str, studies: Iterable[str]) -> None:
        with self._turn:
            self._seen.setdefault(session, set()).update(studies)
            self._seen.move_to_end(session)
            while len(self._seen) > _MOST:
                self._seen.popitem(last=False)


def look(request: Request, studies: Iterable[str]) -> None:
    """Who asks is about to see the names of these studies (pseudonyms): a row for those that they
    have not seen in this session yet. StateUnusable: then show no name.

    Call it before a name is read, and only where `visitor(request).names`.
    """
    looks: Looks = request.app.state.looks
    who = visitor(request)
    wanted = frozenset(studies)
    if not looks.new(who.session, wanted):
        return
    with writing(site(request).settings.state) as journal:
        # another page of this session may have written them before our turn
        if fresh := looks.new(who.session, wanted):
            journal.audit.add(ACTOR, LOOK, **_of(who), studies=fresh)
            looks.noted(who.session, fresh)


def _of(who: Visitor) -> dict[str, str]:
    return {"reader": who.reader, "session": who.session, "role": who.role}
