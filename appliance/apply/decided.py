"""What a person decides of a scanner, where the state folder is another user's: a row of the audit
of the stages, which `work` obeys (store/library.py).

Rules
- `apply` reads in watch.json which rows there are, never the library: that has texts of headers.
  So whether a tuning is proposed `work` alone knows, and what it refuses it writes into the audit.
- It writes one row of the audit, as the page does, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.apply import journals
from appliance.apply.requests import Request
from appliance.errors import StateUnusable
from appliance.store import hint, library
from appliance.store.hint import Hint


def of(state: Path) -> Callable[[Request, str], str]:
    """`Requests.of_scanners` of this state folder."""

    def decide(request: Request, actor: str) -> str:
        rows = [one for one in library.told(state).rows if one.row.startswith(request.row or "-")]
        of_alarm = request.verb in (library.ACKNOWLEDGE, library.ACCEPT)
        if len(rows) != 1 or (of_alarm and not rows[0].alarms):
            raise StateUnusable(
                f"there is no row {request.row!r}{' with an open alarm' if of_alarm else ''}",
                code="row_unknown" if len(rows) != 1 else "no_alarm",
                remedy="`sudo -u scanside scanside drift` lists them.",
            )
        with journals.writing(state) as journal:
            journal.audit.add(actor, request.verb, row=rows[0].row)
        hint.send(state, Hint(ordered=True))
        return rows[0].row

    return decide
