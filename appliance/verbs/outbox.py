"""`scanside outbox`: what is owed to each destination and what is dead.

Nothing is dropped but by a person who names it: by its seq, or by its key where its destination
draws no seq. retry and drop are audited. To look at the outbox makes and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from appliance.errors import ScansideError
from appliance.results import destinations
from appliance.results.owed import Destination
from appliance.results.pacs import Pacs
from appliance.settings import Settings
from appliance.store import hint
from appliance.store.bell import ring
from appliance.store.delivery import Forbidden, State
from appliance.store.hint import Hint
from appliance.store.journal import Journal
from appliance.store.rows import OwedCounts, OwedRow, Which

if TYPE_CHECKING:
    from rich.table import Table


def listed(settings: Settings, limit: int = 1000) -> list[OwedRow]:
    """What is owed and what is dead, in order; at most `limit` of those that wait."""
    journal = Journal.read(settings.state)
    if journal is None:
        return []
    with journal:
        rows = [*journal.owed.listed(State.WAITING, limit), *journal.owed.listed(State.DEAD)]
    return sorted(rows, key=lambda row: row.id)


def retry(settings: Settings, which: Which | None = None) -> int:
    """What is dead (None: all of it) is owed again; how many. Audited by the journal.

    ScansideError where one is named that is not dead.
    """
    count = _decided(settings, lambda journal: journal.owed.retry(_actor(), which))
    if count:
        for stage in sorted({one.stage for one in destinations.of(settings.deliver)}):
            ring(settings.state, stage)
        if settings.deliver:  # what was never composed is composed first
            hint.send(settings.state, Hint(ordered=True))
    elif which is not None:
        raise ScansideError(
            f"message {which} is not dead",
            remedy="`scanside outbox list` shows what is dead; what waits is sent by itself.",
            code="not_dead",
        )
    return count


def drop(settings: Settings, which: Which, to: str | None = None) -> None:
    """A person gives one up, for the destination `to` or for each that it is owed to. Audited by
    the journal; ScansideError where it is not owed."""
    if not _decided(settings, lambda journal: journal.owed.drop(_actor(), which, to)):
        raise ScansideError(
            f"message {which} is neither waiting nor dead{f' for {to}' if to else ''}",
            remedy="`scanside outbox list` shows what is owed.",
            code="not_owed",
        )


def drop_all(settings: Settings, to: str) -> int:
    """All that a destination is owed, which the settings do not name any more, is given up; how
    much. ScansideError where they do."""
    if any(one.name == to for one in destinations.of(settings.deliver)):
        raise ScansideError(
            f"{to} is named in the settings, and gets what it is owed",
            remedy="Take its [[deliver]] out first, or name one message by SEQ or --key KEY.",
            code="destination_in_use",
        )
    return _decided(settings, lambda journal: journal.owed.drop_all(_actor(), to))


def show(settings: Settings) -> None:
    """`scanside outbox list`."""
    from rich.console import Console  # noqa: PLC0415 - a stage that only wakes needs no terminal

    rows, counts = listed(settings), OwedCounts()
    if (journal := Journal.read(settings.state)) is not None:
        with journal:
            counts = journal.owed.counts()
    console = Console()
    to = destinations.of(settings.deliver)
    console.print(table(rows, datetime.now(timezone.utc), counts, to))
    if len(rows) < counts.waiting + counts.dead:
        console.print(f"the first {len(rows)} are shown")


def _decided(settings: Settings, decide: Callable[[Journal], int]) -> int:
    """How many a person's decision was about; 0 where it is forbidden or there is no journal."""
    reader = Journal.read(settings.state)
    if reader is None:  # before the first start nothing is owed, and looking makes no journal
        return 0
    reader.close()
    with Journal.open(settings.state) as journal:
        try:
            return decide(journal)
        except Forbidden:
            return 0


def _actor() -> str:
    """Who typed it."""
    return f"uid {os.getuid()}"


def _what(row: OwedRow, to: Sequence[Destination]) -> str:
    """What it is, in its destination's own words, and by which key it is named where it has no
    number; the key alone where this release knows no such destination."""
    for one in to:
        if one.name == row.destination:
            said = one.described(row.key, row.body)
            composed = row.file is not None or not isinstance(one, Pacs)
            said += "" if composed else ", not composed yet"
            return said if row.seq is not None else f"{said} (--key {row.key!r})"
    return row.key


def table(
    rows: Sequence[OwedRow],
    now: datetime,
    counts: OwedCounts,
    to: Sequence[Destination] = destinations.DESTINATIONS,
) -> Table:
    """The rows for a terminal; `counts` knows how many there are in all. to: who can say what they
    are."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    title = f"outbox: {counts.waiting} waiting, {counts.dead} dead"
    shown = Table(title=title, title_justify="left")
    for name in ("seq", "to", "state", "age", "what", "attempts", "last error"):
        shown.add_column(name, justify="right" if name in ("seq", "age", "attempts") else "left")
    for row in rows:
        age = max(0, round(now.timestamp() - row.created))
        shown.add_row(
            "-" if row.seq is None else str(row.seq),
            row.destination,
            Text(row.state, style="bold red" if row.state == State.DEAD else ""),
            f"{age} s",
            Text(_what(row, to)),
            str(row.attempts),
            Text(row.last_error or ""),
        )
    return shown
