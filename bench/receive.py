"""Durable C-STORE of 400 x 512 KiB by dcmtk's storescu, from one sender and from four at once.

    python -m bench.receive [--repeat N]        the whole table in MB/s, receivers in turn

Our receive, which answers after file and folder are synced, against `bench.receivers` and against
the disk itself: the same bytes written and synced in a plain loop. Four senders send 100 each, of
a series each.

Rules
- The files to send are made once and are on disk before anything is timed.
- Each run starts its receiver in an empty folder; only the sending is timed, the start of the
  senders included. Senders and receiver share the machine's cores.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from bench import receivers
from bench.receivers import ENVIRONMENT, Start

STORESCU = "/usr/bin/storescu"
"""dcmtk's own: pynetdicom installs scripts of the same names into a virtual environment."""
INSTANCES, SIDE = 400, 512
MEGABYTES = INSTANCES * SIDE * SIDE * 2 / 1e6
OURS, DISK = "scanside receive", "the disk, synced"

Run = Callable[[], float]
"""Sends or writes everything once; seconds."""


def comparisons() -> Iterator[tuple[str, str, str, Run, Run]]:
    """One row a peer and number of senders; none, with the reason, where dcmtk is missing."""
    for what, runs in _tables():
        for peer, run in runs.items():
            if peer != OURS:
                yield what, OURS, peer, runs[OURS], run


def _tables() -> Iterator[tuple[str, dict[str, Run]]]:
    if not Path(STORESCU).exists():
        print("receive: left out, dcmtk is not installed (apt-get install dcmtk)")
        return
    starts = {OURS: receivers.ours, **receivers.peers()}
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        root = Path(name)
        for count in (1, 4):
            files = made(root / f"files-{count}", count)
            runs: dict[str, Run] = {
                name: partial(_sending, root, start, files) for name, start in starts.items()
            }
            runs[DISK] = partial(_writing, root, count)
            yield (
                f"durable C-STORE of {INSTANCES} x 512 KiB ({MEGABYTES:.0f} MB), senders: {count}",
                runs,
            )
            shutil.rmtree(root / f"files-{count}")


def made(folder: Path, series: int) -> list[Path]:
    """INSTANCES CT images of noise in `series` folders, one series each; on disk."""
    count = INSTANCES // series
    folders = []
    for number in range(series):
        voxels = np.random.default_rng(number).integers(
            -1000, 400, (count, SIDE, SIDE), dtype=np.int16
        )
        path = folder / str(number)
        path.mkdir(parents=True)
        phantom = Phantom(voxels, (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), ())
        for n, image in enumerate(instances.series(phantom)):
            image.save_as(path / f"{n}.dcm", enforce_file_format=True)
        folders.append(path)
    os.sync()
    return folders


def senders(port: int, files: list[Path]) -> list[subprocess.Popen[bytes]]:
    """A storescu a folder, at once."""
    return [
        subprocess.Popen(
            [STORESCU, "-aec", "SCANSIDE", "+sd", "127.0.0.1", str(port), str(folder)],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
        )
        for folder in files
    ]


def _sending(root: Path, start: Start, files: list[Path]) -> float:
    """Seconds until every sender has all its answers."""
    with _empty(root) as folder, start(folder) as running:
        os.sync()
        began = time.perf_counter()
        failed = [process.wait(300) for process in senders(running.port, files)]
        took = time.perf_counter() - began
        if any(failed):
            raise SystemExit("a sender failed")
        return took


def _writing(root: Path, processes: int) -> float:
    """Seconds to write and sync the same bytes by `processes` loops, each in its own folder."""
    with _empty(root) as folder:
        os.sync()
        began = time.perf_counter()
        writers = [
            multiprocessing.Process(target=_write, args=(folder / str(n), INSTANCES // processes))
            for n in range(processes)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(300)
        return time.perf_counter() - began


def _write(folder: Path, count: int) -> None:
    folder.mkdir()
    data = os.urandom(SIDE * SIDE * 2)
    names = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for n in range(count):
        file = os.open(folder / str(n), os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(file, data)
        os.fdatasync(file)
        os.close(file)
        os.fsync(names)


@contextlib.contextmanager
def _empty(root: Path) -> Iterator[Path]:
    """A new folder under `root`, whose files lose their content at the end but are not deleted.

    ext4 steps over every inode that was deleted in the last minute, one by one, when it makes a
    file: the deletions of one run would slow the next.
    """
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder
    finally:
        for path in folder.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)


def main() -> None:
    """Every receiver in turn, N times; ratios first."""
    parser = argparse.ArgumentParser(prog="python -m bench.receive")
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    for what, runs in _tables():
        print(f"{what}: best of {repeat} (median, worst)")
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeat):
            for name, run in runs.items():
                rates[name].append(MEGABYTES / run())
        for name, measured in rates.items():
            ratio = max(rates[OURS]) / max(measured)
            print(
                f"{ratio:6.2f}x  {name:24} {max(measured):4.0f} MB/s "
                f"({statistics.median(measured):.0f}, {min(measured):.0f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
