"""Durable C-STORE of 200 x 512 KiB by dcmtk's storescu: our receive against dcmtk's storescp.

storescp answers before anything is on disk; ours syncs file and folder first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from appliance.demo import instances
from appliance.demo.phantom import Phantom

STORESCU, STORESCP = "/usr/bin/storescu", "/usr/bin/storescp"
"""dcmtk's own: pynetdicom installs scripts of the same names into a virtual environment."""
SLICES = 200
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def comparisons() -> Iterator[tuple[str, str, str, Callable[[], object], Callable[[], object]]]:
    """One row; none, with the reason, where dcmtk is missing."""
    if not Path(STORESCU).exists() or not Path(STORESCP).exists():
        print("receive: left out, dcmtk is not installed (apt-get install dcmtk)")
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scanside-bench-")))
        ours = stack.enter_context(_receive(folder / "ours"))
        peer = stack.enter_context(_storescp(folder / "peer"))
        yield (
            f"durable C-STORE of {SLICES} x 512 KiB, one sender",
            "scanside receive",
            "storescp (no sync)",
            lambda: _send(folder, ours),
            lambda: _send(folder, peer),
        )


def _send(folder: Path, port: int) -> float:
    """Seconds to send a series that nobody has seen: a known one would only be compared."""
    files = folder / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    voxels = np.random.default_rng().integers(-1000, 400, (SLICES, 512, 512), dtype=np.int16)
    phantom = Phantom(voxels, (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), ())
    series = instances.series(phantom, study_uid=generate_uid(), series_uid=generate_uid())
    for number, image in enumerate(series):
        image.save_as(files / f"{number}.dcm", enforce_file_format=True)
    began = time.perf_counter()
    subprocess.run(
        [STORESCU, "-aec", "SCANSIDE", "+sd", "127.0.0.1", str(port), str(files)],
        env=ENVIRONMENT,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=300,
    )
    return time.perf_counter() - began


@contextlib.contextmanager
def _receive(folder: Path) -> Iterator[int]:
    folder.mkdir()
    port = _free_port()
    config = folder / "scanside.toml"
    config.write_text(
        f'state = "{folder}/state"\n[dicom]\nbind = "127.0.0.1"\nport = {port}\n'
        '[[dicom.allow]]\nae_title = "*"\nhost = "127.0.0.0/8"\n[retain]\nreserve_mb = 64\n'
    )
    command = [sys.executable, "-m", "appliance", "receive", "--config", str(config)]
    with _listening(command, port):
        yield port


@contextlib.contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    folder.mkdir()
    port = _free_port()
    with _listening([STORESCP, "-aet", "SCANSIDE", "-od", str(folder), str(port)], port):
        yield port


@contextlib.contextmanager
def _listening(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
