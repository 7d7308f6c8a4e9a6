"""Holding the outbox: a file, because a pause must survive restarts and everyone may see it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

from appliance.store.files import DISK, Disk

PAUSED = Path("publish.paused")


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
