"""What a person decides of a scanner, where the state folder is another user's: a row of the audit
of the stages, which `work` obeys (store/library.py), and what it has answered.

Rules
- `apply` reads in watch.json which rows there are, and which tunings have none, never the library:
  that has texts of headers. So whether a tuning is proposed `work` alone knows.
- It writes one row of the audit, as the page does, and nothing else. Who asked gets the hash of it,
  and asks by that for the answer: one to another act, older or newer, names another hash.
- What `work` has answered is text that another user wrote: it is shown only as far as it can be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from appliance.apply import journals
from appliance.apply.requests import Answer, Request, Shown
from appliance.errors import StateUnusable
from appliance.report import Record
from appliance.store import hint, library
from appliance.store.hint import Hint
from appliance.watching.told import short

MOST: Final = 1000
"""Characters of a text that is shown."""
Text = Annotated[Shown, Field(max_length=MOST)]


class Answered(Record):
    """What `work` says of an act, as it can be shown."""

    text: Text
    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] = library.REFUSED
    remedy: Text = ""


def of(state: Path) -> Callable[[Request, str], Answer]:
    """`Requests.of_scanners` of this state folder."""

    def decide(request: Request, actor: str) -> Answer:
        if request.verb == "drift_answer":
            return answered(state, request.act or "")
        named = _named(state, request)
        with journals.writing(state) as journal:
            act = journal.audit.add(actor, request.verb, **named)
        hint.send(state, Hint(ordered=True))
        return Answer(ok=True, text=named.get("row") or short(named["tuning"]), act=act)

    return decide


def answered(state: Path, act: str) -> Answer:
    """What became of the act of this hash: `obeyed`, why not, or nothing yet. StateUnusable where
    the journal cannot be read."""
    with journals.reading(state) as journal:
        answers = [] if journal is None else journal.audit.of(library.ANSWERS)
    found = library.answer_to(answers, act)
    if found is None:
        return Answer(ok=True)
    said = {name: one for name, one in found.detail.items() if name in Answered.model_fields}
    try:
        told = Answered.model_validate(said)
    except ValidationError:
        told = Answered(
            text="`work` has answered what cannot be shown",
            remedy="Look at `sudo -u scanside scanside drift`, and at the log of `work`.",
        )
    if found.action == library.OBEYED:
        return Answer(ok=True, obeyed=True, text=told.text)
    return Answer(ok=False, code=told.code, text=told.text, remedy=told.remedy)


def _named(state: Path, request: Request) -> dict[str, str]:
    """The row, or the tuning without one, as the audit names it. StateUnusable `row_unknown`,
    `no_alarm`."""
    told, begins = library.told(state), request.row or "-"
    rows = [one for one in told.rows if one.row.startswith(begins)]
    lone = [one for one in told.tunings if one.startswith(begins)]
    if request.verb != library.WITHDRAW:
        lone = []
    of_alarm = request.verb in (library.ACKNOWLEDGE, library.ACCEPT)
    if len(rows) + len(lone) != 1 or (of_alarm and not rows[0].alarms):
        raise StateUnusable(
            f"there is no row {request.row!r}{' with an open alarm' if of_alarm else ''}",
            code="no_alarm" if len(rows) == 1 else "row_unknown",
            remedy="`sudo -u scanside scanside drift` lists them.",
        )
    return {"row": rows[0].row} if rows else {"tuning": lone[0]}
