"""The outbox as seen from outside: waking the publish stage, holding it, and `scanside outbox`.

Rules
- `wake` is one datagram to run/publish.sock and never fails: a lost one costs at most one tick.
- A pause is a file, `publish.paused`, because it must survive restarts and everyone may see it.
- `list` shows what waits and what is dead; nothing is dropped but by a person who names its seq.
- What is sent again keeps its event_id and its seq, so it leaves before anything newer.
This module imports no broker library: other stages wake through it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ScansideError, StateUnusable
from appliance.publish.message import of_report
from appliance.report import Report, event_id
from appliance.settings import Settings
from appliance.store.files import DISK, Disk
from appliance.store.journal import Journal
from appliance.store.part import Part
from appliance.store.rows import OutboxCounts, QueuedMessage

if TYPE_CHECKING:
    from rich.table import Table

SOCKET = Path("run/publish.sock")
PAUSED = Path("publish.paused")


def wake(state: Path) -> None:
    """Tell the publish stage that something is owed. Errors are ignored: the tick covers them."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.setblocking(False)
        sender.sendto(b"\n", str(state / SOCKET))


class Bell:
    """The receiving end of `wake`. Held by one publish stage at a time (flock)."""

    def __init__(self, state: Path) -> None:
        path = state / SOCKET
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(
                path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as e:
            raise StateUnusable(f"{path.parent}: {e.strerror}") from e
        self.socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            self.socket.bind(str(path))
            path.chmod(0o600)
        except BlockingIOError as e:
            self.close()
            raise StateUnusable(
                f"{path}: another publish stage serves this state folder",
                remedy="Stop the other `scanside publish` or `scanside run` first.",
                code="already_running",
            ) from e
        except OSError as e:
            self.close()
            raise StateUnusable(
                f"{path}: {e.strerror or e}",
                remedy="Set `state` to a folder that is writable and whose path is short "
                "(a unix socket's path has at most 107 bytes).",
            ) from e

    def drain(self) -> bool:
        """Take what rang; whether anything did."""
        rang = False
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(64)
                rang = True
        return rang

    def close(self) -> None:
        self.socket.close()
        os.close(self._lock)


def paused(state: Path) -> bool:
    """Whether the outbox is held."""
    return (state / PAUSED).exists()


def set_paused(state: Path, hold: bool, *, disk: Disk = DISK) -> bool:
    """Hold the outbox or let it go, durably; whether that changed anything."""
    if paused(state) == hold:
        return False
    if hold:
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        disk.write(state / PAUSED, json.dumps({"since": since}).encode() + b"\n")
    else:
        disk.remove(state / PAUSED)
    return True


class Again(Part):
    """One more part of the journal: what was delivered or is dead is owed again."""

    def owe_again(self, report: Report) -> int:
        """All kept messages of the report, and its withdrawal if there was one; how many."""
        ids = event_ids(report)
        marks = ",".join("?" * len(ids))
        with self._db.write() as db:
            return db.execute(
                f"""UPDATE messages SET state = 'waiting', delivered_at = NULL, attempts = 0
                WHERE state IN ('delivered', 'dead', 'waiting') AND event_id IN ({marks})""",  # noqa: S608 - question marks
                [str(i) for i in ids],
            ).rowcount


def event_ids(report: Report) -> tuple[uuid.UUID, ...]:
    """The event_ids of a report's messages; they do not depend on the series or the time."""
    at = datetime.min.replace(tzinfo=timezone.utc)
    own = (o.message.event_id for o in of_report(report, series_uid="", at=at))
    return (*own, event_id(report.report_id, "superseded"))


# `scanside outbox`


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
