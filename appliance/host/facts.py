"""What the machine says of itself, read from /proc and /sys. Tolerant: what is missing is None.

Rules. Reading never raises and never runs a program. Memory is MemAvailable (proc_meminfo(5)),
because on a Jetson the GPU takes from the same memory and free figures of other interfaces do not
see that. `root` is a parameter so that a test can show a machine that is not this one.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at the machine. MB are 10^6 bytes."""

    uptime_s: float | None
    load: float | None
    """Runnable processes, mean over one minute."""
    memory_available_mb: float | None
    disk_free_mb: float | None
    """Free to this user on the file system of the state folder."""
    model: str | None
    """Name of the board or processor."""
    cores: int
    system: str
    """Kernel and architecture."""
    python: str


def read(state: Path, root: Path = ROOT) -> Facts:
    """Look at the machine now."""
    return Facts(
        uptime_s=_first_number(root / "proc/uptime"),
        load=_first_number(root / "proc/loadavg"),
        memory_available_mb=_memory_available_mb(root),
        disk_free_mb=disk_free_mb(state),
        model=model(root),
        cores=_cores(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
    )


def version() -> str:
    """The appliance's version; `unknown` where it runs from a checkout that is not installed."""
    try:
        return importlib.metadata.version("scanside")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def disk_free_mb(folder: Path) -> float | None:
    """Free space for this user at `folder`, or at its nearest parent that exists."""
    for place in (folder, *folder.absolute().parents):
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize / 1e6
    return None


def temperature_c(root: Path = ROOT) -> float | None:
    """The hottest of the machine's thermal zones, in degrees Celsius. A zone whose part is switched
    off cannot be read, and counts for nothing (a Jetson's GPU)."""
    found = []
    for zone in (root / "sys/class/thermal").glob("thermal_zone*/temp"):
        words = _text(zone).split()
        with suppress(ValueError, IndexError):
            found.append(int(words[0]) / 1000)  # linux thermal sysfs: millidegrees
    return max((c for c in found if 0 < c < 150), default=None)


def model(root: Path = ROOT) -> str | None:
    """The board's name from the device tree (Jetson) or DMI, else the processor's."""
    for name in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        found = _text(root / name).strip(" \0\n")
        if found:
            return found[:128]
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()[:128]
    return None


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def _memory_available_mb(root: Path) -> float | None:
    for line in _text(root / "proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        if key == "MemAvailable":
            parts = value.split()
            if parts and parts[0].isdigit():
                return int(parts[0]) * 1024 / 1e6
    return None


def _first_number(path: Path) -> float | None:
    words = _text(path).split()
    try:
        return float(words[0]) if words else None
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
