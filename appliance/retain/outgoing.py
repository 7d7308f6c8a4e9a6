"""Composed objects (outgoing/): a file goes when nobody is owed it, or when that took too long.

Rules
- A file stays while a row that names it waits, is dead, or is not settled in any other way; and
  while an archive that is asked to promise has taken it and not promised to keep it.
- What nobody took for `retain.owed_days` is given up, whether it waits or is dead: an archive that
  is gone for ever must not fill the disk. So are dead ones, the oldest first, where less than
  `retain.target_free_mb` is free, and what waits where even `retain.reserve_mb` is not: then the
  scanner would be refused. Each time is audited, and an event says whose they were.
- A file that no row names goes when it was seen for a day: composing writes a file first, and its
  rows name it a moment later.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.results.pacs import OUTGOING
from appliance.retain import age
from appliance.settings import Settings
from appliance.store import delivery
from appliance.store.delivery import State
from appliance.store.events import DeliveriesDropped
from appliance.store.files import Disk
from appliance.store.journal import Journal
from appliance.store.rows import OwedRow


def files(state: Path) -> list[Path]:
    """What lies there, the oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in (state / OUTGOING).iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)]


def clean(settings: Settings, journal: Journal, ledger: age.Ledger, disk: Disk) -> int:
    """Delete what the rules say; how many deliveries were given up."""
    owed: dict[str, list[OwedRow]] = {}
    for row in journal.owed.with_files(f"{OUTGOING}/"):
        owed.setdefault(str(row.file), []).append(row)
    asked = {one.name for one in settings.promising}
    dropped: Counter[str] = Counter()
    for path in files(settings.state):
        rows = owed.get(f"{OUTGOING}/{path.name}", [])
        seen_s = ledger.age_s(path.name)
        if not rows and seen_s <= age.DAY_S:
            continue
        left = [row for row in rows if row.state not in delivery.SETTLED]
        unpromised = [r for r in rows if r.state == State.DELIVERED and r.destination in asked]
        if left or unpromised:
            old = seen_s > settings.retain.owed_days * age.DAY_S
            if not (old or _must_go(left, disk.free_mb(settings.state), settings)):
                continue
            dropped.update(row.destination for row in left)
            _give_up(journal, left)
        disk.remove(path)
    for destination, count in dropped.items():
        journal.audit.add("retain", "deliveries_dropped", destination=destination, count=count)
        journal.events.add(DeliveriesDropped(subject=destination, count=count))
    return dropped.total()


def _must_go(rows: Sequence[OwedRow], free_mb: float, settings: Settings) -> bool:
    """Whether the room of a file is needed more than the file."""
    if any(row.state == State.WAITING for row in rows):
        return free_mb < settings.retain.reserve_mb
    return free_mb < settings.retain.target_free_mb


def _give_up(journal: Journal, rows: Iterable[OwedRow]) -> None:
    for row in rows:
        journal.owed.give_up(row.destination, row.key, "given up: not taken in time")
