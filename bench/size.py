"""What the whole line takes: memory, time to start, processor time when nothing happens.

Rules
- Memory is the proportional set size (proc(5), smaps_rollup: shared pages counted once in all)
  summed over `scanside run` and every process below it; broker and sender do not count.
- The peak is the highest of samples 0.1 s apart, from the first slice to the final report.
- The series is the chest phantom with 600 slices of 512 x 512, sent by storescu.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pydicom.uid import generate_uid

from appliance.phantom import instances
from appliance.phantom.chest import BOTTOM_MM, TOP_MM, chest
from bench.figure import Figure
from bench.site import STORESCU, Site, running

SLICES, PIXEL_MM = 600, 0.7
STARTS = 5
IDLE_S = 30.0
SAMPLE_S = 0.1
RESTED_S = 75.0
"""After a minute without news `work` gives back what the last series left."""


def figures() -> Iterator[Figure]:
    """Start, idle, peak; the peak only where dcmtk is installed."""
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        folder = Path(name)
        starts = []
        for _ in range(STARTS):
            with running(folder) as site:
                starts.append((site.ready_s, _seconds_spent(site.process.pid)))
        took, spent = (statistics.median(values) for values in zip(*starts, strict=True))
        parts = {"processor time of all stages": spent}
        yield Figure(f"start to ready, p50 of {STARTS}", took, "s", 3.0, parts)
        with running(folder) as site:
            time.sleep(2.0)
            before = pss_mb(site.process.pid)
            yield Figure("PSS, idle after the start", sum(before.values()), "MB", 300.0, before)
            yield Figure(f"processor time, idle, {IDLE_S:.0f} s", _idle_percent(site), "%", 1.0)
            if not STORESCU.exists():
                print("size: the peak is left out, dcmtk is not installed (apt-get install dcmtk)")
                return
            peak = _peak(site, folder)
            what = f"{SLICES} slices of 512 x 512"
            yield Figure(f"PSS, peak of {what}", sum(peak.values()), "MB", 1200.0, peak)
            time.sleep(RESTED_S)
            after = pss_mb(site.process.pid)
            what = f"PSS, {RESTED_S:.0f} s after {what}"
            yield Figure(what, sum(after.values()), "MB", 300.0, after)


def _peak(site: Site, folder: Path) -> dict[str, float]:
    """MB by stage at the highest sample while the series is sent and analysed."""
    files = folder / "files"
    files.mkdir()
    phantom = chest(spacing_mm=((TOP_MM - BOTTOM_MM) / (SLICES + 0.5), PIXEL_MM, PIXEL_MM))
    series = str(generate_uid())
    for number, image in enumerate(instances.series(phantom, series_uid=series)):
        image.save_as(files / f"{number:04d}.dcm", enforce_file_format=True)
    del phantom
    samples: list[dict[str, float]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            samples.append(pss_mb(site.process.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        if site.scanner("CT1", [files]).wait(300):
            raise SystemExit("the sender failed")
        site.ended([series])
    finally:
        done.set()
        sampler.join()
    return max(samples, key=lambda one: sum(one.values()))


def tree(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        found += [p for child in below for p in tree(int(child))]
    return found


def pss_mb(pid: int) -> dict[str, float]:
    """Verb -> MB, for the tree of `scanside run`; the children of `receive` count to it."""
    found: dict[str, float] = {}
    for one in tree(pid):
        with contextlib.suppress(OSError):  # it has ended
            words = Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")
            name = words[3].decode() if len(words) > 3 else "?"
            for line in Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    found[name] = found.get(name, 0.0) + int(line.split()[1]) / 1024
    return found


def _idle_percent(site: Site) -> float:
    """Of one core."""
    before = _seconds_spent(site.process.pid)
    time.sleep(IDLE_S)
    return 100.0 * (_seconds_spent(site.process.pid) - before) / IDLE_S


def _seconds_spent(pid: int) -> float:
    """Processor time of the tree (proc(5), stat: fields 14 to 17), ended children included."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")
