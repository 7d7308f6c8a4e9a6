"""`work` under a hard limit of memory: what is too large is refused with the figures, never tried.

The limit is RLIMIT_AS of the real process (prlimit(1)): an allocation above it fails at once, where
under a control group the OOM killer would come. Tests of the figures of control groups are in
tests/appliance/host/test_memory.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.host import memory
from appliance.phantom.chest import Phantom
from appliance.reasons import Code
from appliance.store.events import Loaded
from faults.stages import Line, line
from rigs.programs import program
from rigs.scans import Scan, Scans

LARGE = 600
"""Images of 512 x 512: some 450 MB as decoded and as resampled."""


def size_of(pid: int) -> int:
    """Bytes of address space (proc(5), statm)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) << 10 for row in text.splitlines() if row.startswith("VmSize"))


@pytest.fixture(scope="module")
def large_scan(small_scans: Scans) -> Scan:
    """A whole body in thin slices, which is air."""
    hu = np.full((LARGE, 512, 512), -1000, np.int16)
    return small_scans.make(phantom=Phantom(hu, (1.0, 0.9, 0.9), (0.0, 0.0, 0.0), ()))


def limited(running: Line, more: int) -> Any:
    """`work`, allowed `more` bytes above what it takes with its bundle open."""
    idle = running.begin("work")
    site = running.site
    with site.journal() as journal:
        site.until(lambda: journal.events.of(Loaded), "open bundle")
        opened = len(journal.events.of(Loaded))
        limit = size_of(idle.process.pid) + more
        kept = running.begin("work", program("prlimit"), f"--as={limit}")
        site.until(lambda: len(journal.events.of(Loaded)) > opened, "open bundle")
    return kept


@pytest.mark.long
def test_a_series_too_large_is_refused_with_the_figures_and_the_next_is_analysed(
    tmp_path: Path, installed: Path, small_scans: Scans, large_scan: Scan
) -> None:
    small = small_scans.make()
    with line(tmp_path, tmp_path / "state", installed, stages=("publish", "receive")) as running:
        kept = limited(running, memory.RESERVE + (330 << 20))
        site = running.site
        assert site.send(large_scan) == 0
        event = site.ending(large_scan)
        assert event["event"] == "not_analysed"
        (reason,) = event["reasons"]
        assert reason["code"] == Code.TOO_LARGE.value
        assert "MB of memory that this device has left" in reason["text"]
        assert event["report"]["series"]["slices"] == LARGE
        assert site.send(small) == 0
        assert site.ending(small)["event"] == "analysed"
        assert not kept.codes, "the stage lived on"
        assert "MemoryError" not in site.log()
