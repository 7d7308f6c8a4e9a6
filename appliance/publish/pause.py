"""Holding the outbox: a file, because a pause must survive restarts and everyone may see it.

Rules
- The file says since when. A pause ends by itself after `[mqtt] pause_s`: who could pause, and
  then was refused or went away, must not hold findings back for ever.
- The clock of the machine may jump. Results that leave too early do no harm, so a pause that began
  in the future, or whose file cannot be read, is over.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

from appliance.store.files import DISK, Disk

PAUSED = Path("publish.paused")


def paused(state: Path) -> bool:
    """Whether somebody holds the outbox, be it for too long."""
    return (state / PAUSED).exists()


def is_over(state: Path, limit_s: float, now: datetime) -> bool:
    """Whether there is a pause that lasted longer than `limit_s` seconds."""
    try:
        text = (state / PAUSED).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError):
        return True
    try:
        since = datetime.fromisoformat(json.loads(text)["since"])
        return not since <= now < since + timedelta(seconds=limit_s)
    except (ValueError, TypeError, KeyError):
        return True


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
