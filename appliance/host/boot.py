"""Which boot of this machine it is: what happened before a power cut tells apart by it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """Another one after each start of the machine (random(4)); "unknown" where it is not said."""
    try:
        return _BOOT_ID.read_bytes().strip().decode("ascii")
    except OSError:
        return "unknown"
