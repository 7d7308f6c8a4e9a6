"""This tree beside another revision of it, alternately in one run: is it faster, is it larger?

    python -m bench beside REV [--repeat N] [--same-bundles]

REV: any name that git knows; N: 5 runs of each.

Rules
- Both are measured through what every revision has: `scanside run`, the messages that a subscriber
  gets, the processes' memory, and the trace that bench/trace takes. Our own environment is used for
  both, so the libraries are the same.
- Each run starts a line with an empty state and sends R01-001 twice; the first time does not count.
- The median of the runs of each is printed, and their ratio: less than 1 is better than REV.
- With the same bundles this tree, as committed, runs with the factory bundles of REV: then the
  appliance alone is compared, whatever its networks have learned since.
- Other programs make every figure worse; as the two take turns, the ratio suffers least.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid

from bench.line import chest_ct, copied, interpret_s
from bench.site import TREE, Site, running, started_in, trace, traced
from bench.size import pss_mb

RUNS = 5
READY_S = 60.0


def compare(
    revision: str, runs: int, same_bundles: bool = False
) -> Iterator[tuple[str, str, float, float]]:
    """Figure, unit, the median of the other revision and ours."""
    images = chest_ct()
    if images is None:
        return
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        other, ours = Path(name) / "tree", TREE
        check_out(revision, other)
        if same_bundles:
            ours = _with_bundles_of(other, Path(name) / "ours")
        found: dict[Path, list[dict[str, float]]] = {other: [], ours: []}
        for number in range(runs):
            for tree, rows in found.items():
                folder = Path(name) / f"run-{number}-{len(rows)}-{tree.name}"
                folder.mkdir()
                rows.append(_run(tree, folder, images))
                print(f"run {number + 1} of {runs}, {tree}: {rows[-1]}", flush=True)
        for what in found[ours][0]:
            before, after = (
                statistics.median(row[what] for row in rows) for rows in found.values()
            )
            yield what, "MB" if what.startswith("PSS") else "ms", before, after


def check_out(revision: str, folder: Path) -> None:
    """The files of a revision, without a trace in the repository."""
    folder.mkdir()
    git = subprocess.Popen(["git", "-C", str(TREE), "archive", revision], stdout=subprocess.PIPE)  # noqa: S607
    subprocess.run(["tar", "-x", "-C", str(folder)], stdin=git.stdout, check=True)  # noqa: S607
    if git.wait():
        raise SystemExit(f"git does not know the revision {revision!r}")


def _with_bundles_of(other: Path, folder: Path) -> Path:
    """This tree as it is committed, with the factory bundles of another one."""
    check_out("HEAD", folder)
    factory = Path("appliance/factory")
    shutil.rmtree(folder / factory / "bundles")
    shutil.copytree(other / factory / "bundles", folder / factory / "bundles")
    shutil.copy(other / factory / "digests.json", folder / factory)
    return folder


def _run(tree: Path, folder: Path, images: list[Any]) -> dict[str, float]:
    """The figures of one line, milliseconds and MB."""
    notes = folder / "trace"
    with running(folder, traced(notes, tree)) as site:
        start_ms = 1e3 * site.ready_s
        time.sleep(1.0)
        idle = pss_mb(site.process.pid)
        sent(site, folder, images)  # does not count
        begun = time.time()
        times, first_out = sent(site, folder, images)
        after = pss_mb(site.process.pid)
    added = [one for one in trace(notes, "add") if one["begin"] >= begun]
    analysis = next(one for one in trace(notes, "finish") if one["begin"] >= begun)
    return {
        "folding, all slices": 1e3 * sum(one["end"] - one["begin"] for one in added),
        "folding, processor time": 1e3 * sum(one["own"] for one in added),
        "last slice to folded": 1e3 * (times["prepared"] - times["last_slice"]),
        "folded to the start of the analysis": 1e3 * (analysis["begin"] - times["prepared"]),
        "interpret": 1e3 * interpret_s(analysis),
        "interpret, processor time": 1e3 * analysis["own"],
        "last slice to preliminary findings": 1e3 * (first_out - times["last_slice"]),
        "start of all stages": start_ms,
        "start of `work`": 1e3 * _start_of_work(tree, folder),
        "PSS of all stages, idle": sum(idle.values()),
        "PSS of all stages, after the series": sum(after.values()),
        "PSS of `work`, after the series": after["work"],
    }


def sent(site: Site, folder: Path, images: list[Any]) -> tuple[dict[str, float], float]:
    """Sends the series under new UIDs; times of its first report of all slices (preliminary, unless
    the verdict was there before), and when the last message of it came, seconds since 1970."""
    files = folder / "files" / generate_uid()
    series = copied(images, files)
    site.heard.clear()
    scanner = site.scanner("CT1", [files])
    site.ended([series])
    if scanner.wait(60):
        raise SystemExit("a sender failed")
    reports = [message["report"] for _, _, message in site.heard if message.get("report")]
    whole = [one for one in reports if one["series"]["slices"] == len(images)]
    if not whole:  # of a pause in the transfer there may be an earlier one
        message = [(one["status"], one["series"]["slices"], one["reasons"]) for one in reports]
        raise SystemExit(f"no report of all {len(images)} slices: {message}")
    report = whole[0]
    times = {
        name: datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()
        for name, at in report["times"].items()
        if at is not None
    }
    out = [
        at
        for at, _, message in site.heard
        if message.get("report") == report
        or (message.get("report_id"), message.get("stage"))
        == (report["report_id"], report["stage"])
    ]
    return times, max(out)


def _start_of_work(tree: Path, folder: Path) -> float:
    """Seconds from the start of `scanside work` until it is ready; the line has ended."""
    path = str(folder / "alone")
    command = [sys.executable, "-m", "appliance", "work", "--config", str(folder / "scanside.toml")]
    environment = started_in(tree, {"NOTIFY_SOCKET": path})
    with _socket(path) as ready, (folder / "work.log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=folder, stderr=log)
        try:
            while b"READY=1" not in ready.recv(4096).split(b"\n"):
                pass
            return time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(READY_S)


@contextmanager
def _socket(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(path)
        ready.settimeout(READY_S)
        yield ready
