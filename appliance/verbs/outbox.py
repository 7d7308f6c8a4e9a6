"""`scanside outbox`: what is owed and what is dead.

Nothing is dropped but by a person who names its seq; retry and drop are audited.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ScansideError
from appliance.settings import Settings
from appliance.store.bell import wake
from appliance.store.journal import Journal
from appliance.store.rows import OutboxCounts, QueuedMessage

if TYPE_CHECKING:
    from rich.table import Table


def listed(settings: Settings, limit: int = 1000) -> list[QueuedMessage]:
    """What is owed and what is dead, in order of seq; at most `limit` of those that wait."""
    if not _journal_path(settings).exists():
        return []
    with _journal(settings) as journal:
        return sorted([*journal.waiting(limit), *journal.dead()], key=lambda row: row.seq)


def retry(settings: Settings, seq: int | None = None) -> int:
    """Dead messages (None: all) are owed again; how many. Audited by the journal. ScansideError
    where one is named that is not dead."""
    count = 0
    if _journal_path(settings).exists():
        with _journal(settings) as journal:
            count = journal.retry(_actor(), seq)
    if count:
        wake(settings.state)
    elif seq is not None:
        raise ScansideError(
            f"message {seq} is not dead",
            remedy="`scanside outbox list` shows what is dead; what waits is sent by itself.",
            code="not_dead",
        )
    return count


def drop(settings: Settings, seq: int) -> None:
    """A person gives one message up. Audited by the journal; ScansideError where it is not owed."""
    if _journal_path(settings).exists():
        with _journal(settings) as journal:
            if journal.drop(_actor(), seq):
                return
    raise ScansideError(
        f"message {seq} is neither waiting nor dead",
        remedy="`scanside outbox list` shows what is owed.",
        code="not_owed",
    )


def show(settings: Settings) -> None:
    """`scanside outbox list`."""
    from rich.console import Console  # noqa: PLC0415 - a stage that only wakes needs no terminal

    rows, counts = listed(settings), OutboxCounts(0, 0, 0, 0, None)
    if _journal_path(settings).exists():
        with _journal(settings) as journal:
            counts = journal.outbox_counts()
    console = Console()
    console.print(table(rows, datetime.now(timezone.utc), counts))
    if len(rows) < counts.waiting + counts.dead:
        console.print(f"the first {len(rows)} are shown")


def _journal_path(settings: Settings) -> Path:
    """Not there before the first start: then nothing is owed, and looking makes no journal."""
    return settings.state / "journal.sqlite"


def _journal(settings: Settings) -> Journal:
    return Journal.open(_journal_path(settings))


def _actor() -> str:
    """Who typed it."""
    return f"uid {os.getuid()}"


def table(rows: Sequence[QueuedMessage], now: datetime, counts: OutboxCounts) -> Table:
    """The rows for a terminal; `counts` knows how many there are in all."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    title = f"outbox: {counts.waiting} waiting, {counts.dead} dead"
    shown = Table(title=title, title_justify="left")
    for name in ("seq", "state", "age", "topic", "attempts", "last error"):
        shown.add_column(name, justify="right" if name in ("seq", "age", "attempts") else "left")
    for row in rows:
        age = max(0, round(now.timestamp() - row.created))
        shown.add_row(
            str(row.seq),
            Text(row.state, style="bold red" if row.state == "dead" else ""),
            f"{age} s",
            Text(row.topic),
            str(row.attempts),
            Text(row.last_error or ""),
        )
    return shown
