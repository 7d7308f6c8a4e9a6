"""Who asked `apply` for what, and what it did: a chain of lines in files that do not grow for ever.

    trusted/audit.jsonl      the newest lines
    trusted/audit.N.jsonl    older ones, up to line N: the newest KEPT such files

Rules.
1. A line is on the disk before what it tells of is done.
2. Each line has its number and the SHA-256 of the line before it, across files. So what was
   changed, taken out or put in between shows (`broken`); whoever may rewrite all of it can make
   another chain, which the copy in the journal then contradicts.
3. A file that would be longer than MOST_BYTES gets the number of its last line, and a new one
   begins. Nobody who may ask fills the disk so; what leaves the oldest file is in the copy still.
4. A last line without its end, or with a hole in it, is of a power cut: nobody relied on it, and it
   is cut off.
5. The stages' audit in the journal gets a copy, for reading. It is never believed here, and where
   the journal takes none the line in this file is enough.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.errors import ScansideError
from appliance.store.files import DISK, Disk

FILE = "audit.jsonl"
MOST_BYTES, KEPT = 1_000_000, 8
FIRST = "0" * 64
_OLDER = re.compile(r"audit\.([0-9]{1,12})\.jsonl")


@dataclass
class Audit:
    """Of one box. `copy` takes (actor, action, detail) as the journal's audit does."""

    folder: Path
    clock: Callable[[], datetime]
    copy: Callable[[str, str, Mapping[str, str]], object]
    disk: Disk = DISK
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: tuple[int, str] | None = None
    """Number and digest of the newest line; None: not looked at yet."""

    def add(self, actor: str, action: str, detail: Mapping[str, str]) -> None:
        """One line. StateUnusable where the disk takes none: then nothing is done."""
        path = self.folder / FILE
        with self._lock:
            number, previous = self._newest(path)
            chained = {"number": number + 1, "previous": previous}
            what = {"at": self.clock().isoformat(), "actor": actor, "action": action}
            line = json.dumps({**detail, **what, **chained}, ensure_ascii=False).encode() + b"\n"
            if path.exists() and path.stat().st_size + len(line) > MOST_BYTES:
                self._rotate(path, number)
            if not path.exists():
                self.disk.write(path, b"")
            self._last = None  # until the line is whole
            self.disk.append(path, line)
            self._last = number + 1, _digest(line)
        with contextlib.suppress(ScansideError, OSError):
            self.copy(actor, action, detail)

    def _newest(self, path: Path) -> tuple[int, str]:
        """Rule 4, for the first line of this process."""
        if self._last is None:
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            if whole and _said(last := whole.splitlines(keepends=True)[-1]) is None:
                whole = whole[: -len(last)]
            if whole != data:
                self.disk.cut(path, len(whole))
            files = _older(self.folder)
            lines = whole.splitlines(keepends=True)
            if not lines and files:
                lines = files[-1].read_bytes().splitlines(keepends=True)
            self._last = (_number(lines[-1]), _digest(lines[-1])) if lines else (0, FIRST)
        return self._last

    def _rotate(self, path: Path, number: int) -> None:
        """Rule 3."""
        self.disk.move(path, self.folder / f"audit.{number}.jsonl")
        for old in _older(self.folder)[:-KEPT]:
            self.disk.remove(old)


def lines(folder: Path) -> Iterator[bytes]:
    """All that are kept, the oldest first."""
    for path in (*_older(folder), folder / FILE):
        if path.exists():
            yield from path.read_bytes().splitlines(keepends=True)


def broken(folder: Path) -> int | None:
    """The number of the first line that does not follow the one before; None where all do. Lines of
    a release that kept no chain have no number, and stand before all others."""
    before: tuple[int, str] | None = None
    for line in lines(folder):
        said = _said(line)
        if said is None:
            return before[0] + 1 if before else 1
        number = _number(line)
        if number == 0 and (before is None or before[0] == 0):
            before = 0, _digest(line)
            continue
        if before is not None and (number, said.get("previous")) != (before[0] + 1, before[1]):
            return before[0] + 1
        before = number, _digest(line)
    return None


def _older(folder: Path) -> list[Path]:
    """The oldest first."""
    found = {path: _OLDER.fullmatch(path.name) for path in folder.iterdir()}
    named = {path: int(match[1]) for path, match in found.items() if match}
    return sorted(named, key=lambda path: named[path])


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _said(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        said = json.loads(line)
        return said if isinstance(said, dict) else None
    return None


def _number(line: bytes) -> int:
    """0 where it has none."""
    number = (_said(line) or {}).get("number")
    return number if isinstance(number, int) and number > 0 else 0
