"""How an instance is opened: its size first.

A file larger than the memory that is left for its series would end the process while it is read,
and the series would be blamed for it one death after another. It is never opened: the series is
refused with both figures, as it is where its pixels need too much (lines/budget.py). A file of an
ordinary size (`ORDINARY`) is always opened: the fold then says which figures do not fit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from appliance.reasons import Code
from appliance.report import Reason
from appliance.series.foreign import Mark
from appliance.store.spool import Spool

ORDINARY = 64 << 20
"""Bytes; what every device keeps free is more (host/memory.py, RESERVE)."""


@dataclass(frozen=True, slots=True)
class Unopened:
    """An instance that stays on the disk."""

    mark: Mark
    reason: Reason


def opened(spool: Spool, path: Path, most: int | None) -> bytes | Unopened | None:
    """The bytes of an instance of the spool, or why they were not read; None where it is gone.

    most: bytes that may be read; None where the machine does not say. Errors as `Spool.read`.
    """
    size = spool.size(path)
    if size is not None and most is not None and size > max(most, ORDINARY):
        mark = ("", hashlib.sha256(f"{path.name} {size}".encode()).hexdigest())
        text = f"an image of {size >> 20} MiB, and {most >> 20} MiB of memory are left to read it"
        return Unopened(mark, Reason(code=Code.TOO_LARGE, text=text, where="series"))
    return spool.read(path)
