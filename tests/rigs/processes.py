"""Which processes a process has started."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """Their ids, by the parent that each process names (proc(5), stat): the `children` of a task
    may miss some while they run, and has those of one thread alone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            said = path.read_text(encoding="utf-8", errors="replace")
            if int(said.rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found
