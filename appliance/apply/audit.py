"""Who asked `apply` for what, and what it did: trusted/audit.jsonl, one line each, for ever.

Rules.
1. A line is on the disk before what it tells of is done.
2. The stages' audit in the journal gets a copy, for reading. It is never believed here, and where
   the journal takes none the line in this file is enough.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from appliance.errors import ScansideError
from appliance.store.files import DISK, Disk

FILE = "audit.jsonl"


@dataclass(frozen=True, slots=True)
class Audit:
    """Of one box. `copy` takes (actor, action, detail) as the journal's audit does."""

    folder: Path
    clock: Callable[[], datetime]
    copy: Callable[[str, str, Mapping[str, str]], object]
    disk: Disk = DISK
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, actor: str, action: str, detail: Mapping[str, str]) -> None:
        """One line. StateUnusable where the disk takes none: then nothing is done."""
        line = {"at": self.clock().isoformat(), "actor": actor, "action": action, **detail}
        path = self.folder / FILE
        with self.lock:
            if not path.exists():
                self.disk.write(path, b"")
            self.disk.append(path, json.dumps(line, ensure_ascii=False).encode() + b"\n")
        with contextlib.suppress(ScansideError, OSError):
            self.copy(actor, action, detail)
