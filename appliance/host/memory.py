"""How much memory this process may use in all. What cannot be read sets no limit.

Rules
- The smallest counts of: MemAvailable (proc_meminfo(5)); for each memory control group from ours to
  the root, its limit less what it uses and cannot give back at once (cgroup v2: memory.max,
  memory.current, inactive_file of memory.stat; v1: memory.limit_in_bytes, memory.usage_in_bytes,
  total_inactive_file); RLIMIT_AS less the size of this process (getrlimit(2)).
- Swap does not count: an analysis that swaps keeps a patient waiting, and a Jetson has none.
- What this process holds already is added, because an inference library keeps its memory and uses
  it again: else a second large series would be refused for what the first one left.
- RESERVE stays for the other stages and for what nobody foresaw.
`root` is a parameter so that a test can show a machine that is not this one.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
RESERVE = 256 << 20
FRESH_S = 0.2
OPENING = 64 << 20
OPENING_PER_BYTE = 10
"""What a bundle takes when it is opened and its golden cases run, by the bytes of its networks.
Measured: 60 MB for the 6 MB of the first factory bundle, with OpenVINO."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What this process may hold of series and of their analysis."""

    idle: tuple[int, int]
    """Its size and what of it was in memory when its bundles were open and no series had come."""
    root: Path = ROOT

    def bytes(self) -> int | None:
        """Now; None where this machine does not say."""
        now = _statm(self.root)
        limits = [
            *(_plus(free, now[1] - self.idle[1]) for free in _physical(self.root)),
            _plus(_address_space(self.root), now[0] - self.idle[0]),
        ]
        least = min((one for one in limits if one is not None), default=None)
        return None if least is None else max(0, least - RESERVE)


@dataclass(slots=True)
class Gauge:
    """A Room that is read a few times a second at most: each reading costs a millisecond, and every
    slice asks."""

    limit: Limit
    _left: int | None = None
    _read: float = -math.inf

    def bytes(self) -> int | None:
        """As Room says, at most FRESH_S ago: some 40 slices of 512 x 512, or 20 MB."""
        now = time.monotonic()
        if now - self._read > FRESH_S:
            self._left, self._read = self.limit.bytes(), now
        return self._left


def limit(root: Path = ROOT) -> Limit:
    """To be asked once the bundles are open, before the first series."""
    return Limit(_statm(root), root)


def give_back() -> None:
    """What was freed goes back to the kernel (malloc_trim(3)); the C library may else keep it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim is not None:
        trim(0)


def settle() -> None:
    """All that is here now stays as long as this process: Python's collector looks at it once more
    and never again. Else it does so every few series, for 25 to 80 ms, in the middle of one."""
    gc.collect()
    gc.freeze()


def opening(networks: int) -> int:
    """Bytes that it takes to open a bundle whose networks have so many bytes."""
    return OPENING + OPENING_PER_BYTE * networks


def available(root: Path = ROOT) -> int | None:
    """Bytes that this process may still take; None where nothing says so."""
    found = [*_physical(root), _address_space(root)]
    return min((limit for limit in found if limit is not None), default=None)


def _physical(root: Path) -> list[int | None]:
    return [_mem_available(root), *_groups(root)]


def _plus(limit: int | None, held: int) -> int | None:
    return None if limit is None else limit + held


def _mem_available(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        if key == "MemAvailable" and value.split() and value.split()[0].isdigit():
            return int(value.split()[0]) * 1024
    return None


def _groups(root: Path) -> Iterator[int]:
    """What each memory control group above us leaves (cgroups(7), /proc/self/cgroup)."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # in a container the path may be the host's, and only the root of the mount is ours
        places = [mount / path.strip("/"), *(mount / path.strip("/")).parents]
        for place in places[: places.index(mount) + 1]:
            if (left := _left(place, *names)) is not None:
                yield left


def _left(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """None where the group is not there or has no limit (v2: `max`)."""
    most, used = _text(group / limit).strip(), _text(group / usage).strip()
    if not most.isdigit() or not used.isdigit():
        return None
    cache = 0
    for line in _text(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == reclaimable and value.strip().isdigit():
            cache = int(value)
    return max(0, int(most) - max(0, int(used) - cache))


def _address_space(root: Path) -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else max(0, soft - _statm(root)[0])


def _statm(root: Path) -> tuple[int, int]:
    """Size of this process and what of it is in memory, bytes (proc(5): fields 1 and 2)."""
    words = _text(root / "proc/self/statm").split()
    if len(words) < 2 or not all(word.isdigit() for word in words[:2]):
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return int(words[0]) * page, int(words[1]) * page


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
