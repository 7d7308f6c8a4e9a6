"""How much memory there is: real formats of /proc and of both versions of control groups."""

from __future__ import annotations

import gc
import resource
from pathlib import Path

import pytest

from appliance.host import memory

GB = 1 << 30
MEMINFO = """MemTotal:       24683608 kB
MemFree:        19400520 kB
MemAvailable:    8388608 kB
Buffers:          100756 kB
SwapTotal:       4194304 kB
SwapFree:        4194304 kB
"""
V2 = "0::/system.slice/scanside-work.service\n"
V1 = """12:cpuset:/docker/4f
9:memory:/docker/4f
1:name=systemd:/docker/4f
0::/system.slice/containerd.service
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """8 GB available; this process has 2 GB of address space and 1 GB in memory."""
    page = resource.getpagesize()
    _write(tmp_path / "proc/meminfo", MEMINFO)
    _write(tmp_path / "proc/self/statm", f"{2 * GB // page} {GB // page} 423 5 0 123 0\n")
    return tmp_path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_any_limit_it_is_what_the_machine_has_available(machine: Path) -> None:
    assert memory.available(machine) == 8 * GB
    _write(machine / "proc/self/cgroup", "0::/\n")
    assert memory.available(machine) == 8 * GB


def test_the_limit_of_a_unit_counts_and_its_page_cache_does_not(machine: Path) -> None:
    unit = machine / "sys/fs/cgroup/system.slice/scanside-work.service"
    _write(machine / "proc/self/cgroup", V2)
    _write(unit / "memory.max", f"{4 * GB}\n")
    _write(unit / "memory.current", f"{3 * GB}\n")
    _write(unit / "memory.stat", f"anon {GB}\nfile {2 * GB}\ninactive_file {GB}\nactive_file 0\n")
    assert memory.available(machine) == 2 * GB
    _write(unit / "memory.max", "max\n")
    assert memory.available(machine) == 8 * GB
    _write(unit.parent / "memory.max", f"{5 * GB}\n")  # the slice above it
    _write(unit.parent / "memory.current", f"{4 * GB}\n")
    assert memory.available(machine) == GB


def test_the_limit_of_a_container_is_found_at_the_root_of_its_mount(machine: Path) -> None:
    root = machine / "sys/fs/cgroup/memory"
    _write(machine / "proc/self/cgroup", V1)
    _write(root / "memory.limit_in_bytes", f"{3 * GB}\n")
    _write(root / "memory.usage_in_bytes", f"{2 * GB}\n")
    _write(root / "memory.stat", f"inactive_file 1\ntotal_inactive_file {GB // 2}\n")
    assert memory.available(machine) == 3 * GB // 2
    _write(root / "memory.limit_in_bytes", "9223372036854771712\n")  # v1's way to say: none
    assert memory.available(machine) == 8 * GB


def test_what_cannot_be_read_sets_no_limit(tmp_path: Path) -> None:
    assert memory.available(tmp_path) is None
    assert memory.limit(tmp_path).bytes() is None
    _write(tmp_path / "proc/meminfo", "MemAvailable: lots\n")
    _write(tmp_path / "proc/self/cgroup", "0::/../..\nnonsense\n")
    _write(tmp_path / "proc/self/statm", "-\n")
    assert memory.available(tmp_path) is None


def test_what_an_earlier_series_left_behind_is_room_for_the_next(machine: Path) -> None:
    limit = memory.limit(machine)
    assert limit.bytes() == 8 * GB - memory.RESERVE
    page = resource.getpagesize()
    _write(machine / "proc/self/statm", f"{4 * GB // page} {3 * GB // page} 0 0 0 0 0\n")
    _write(machine / "proc/meminfo", f"MemAvailable: {6 * GB // 1024} kB\n")
    assert limit.bytes() == 8 * GB - memory.RESERVE


def test_this_machine_says_how_much_there_is() -> None:
    there = memory.available()
    assert there is not None
    assert there > 0
    assert (memory.limit().bytes() or 0) > 0


def test_a_limit_of_the_address_space_counts_from_the_size_with_bundles_open(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = memory.limit(machine)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (3 * GB, 3 * GB))
    assert memory.available(machine) == GB
    page = resource.getpagesize()
    _write(machine / "proc/self/statm", f"{5 * GB // page // 2} {GB // page} 0 0 0 0 0\n")
    assert memory.available(machine) == GB // 2
    assert limit.bytes() == GB - memory.RESERVE


def test_what_is_settled_is_never_looked_at_by_the_collector_again() -> None:
    here: list[list[object]] = [[]]
    here[0].append(here)
    assert any(one is here for one in gc.get_objects())
    try:
        memory.settle()
        later: list[object] = []
        followed = gc.get_objects()
        assert not any(one is here for one in followed)
        assert any(one is later for one in followed)
    finally:
        gc.unfreeze()
