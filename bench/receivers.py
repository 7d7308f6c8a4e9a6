"""The receivers that `bench.receive` compares, each as a real child process in an empty folder.

Rules
- All run with TCP_NODELAY=1 in their environment: without it dcmtk and Orthanc wait 40 ms an
  instance for a delayed acknowledgement of TCP, which says nothing about either.
- storescp runs with --fork, a process an association as ours: without it four senders would wait
  for one another. Everything else is each program's default, Orthanc's sync of its files included.
- What is not installed is left out, with the command that installs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from appliance.demo.child import free_port
from appliance.store.journal import Journal

STORESCP = "/usr/bin/storescp"
"""dcmtk's own: pynetdicom installs scripts of the same names into a virtual environment."""
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
"""Of Debian's orthanc-dicomweb."""
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
START_S = 30.0


@dataclass(frozen=True)
class Running:
    """A receiver that takes associations."""

    port: int
    pid: int


Start = Callable[[Path], AbstractContextManager[Running]]
"""Start a receiver whose files go to an empty folder; it ends with the context."""


def peers() -> dict[str, Start]:
    """Name and start of every peer that is installed."""
    found: dict[str, Start] = {}
    for name, program, package, start in (
        ("storescp (no sync)", STORESCP, "dcmtk", storescp),
        ("Orthanc", shutil.which("Orthanc"), "orthanc", orthanc),
    ):
        if program is not None and Path(program).exists():
            found[name] = start
        else:
            print(f"receive: {name} is left out; to install it: apt-get install {package}")
    return {**found, "pynetdicom (fdatasync)": pynetdicom}


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[Running]:
    """`scanside receive`: nobody analyses what it stores.

    As in the product somebody else has the journal open; where an association is the only one, it
    empties SQLite's log into the journal at its end each time.
    """
    port = free_port()
    config = folder / "scanside.toml"
    config.write_text(
        f'state = "{folder}/state"\n[dicom]\nbind = "127.0.0.1"\nport = {port}\n'
        '[[dicom.allow]]\nae_title = "*"\nhost = "127.0.0.0/8"\n[retain]\nreserve_mb = 64\n'
    )
    command = [sys.executable, "-m", "appliance", "receive", "--config", str(config)]
    with _listening(command, port) as running, Journal.open(folder / "state"):
        yield running


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[Running]:
    """dcmtk: answers before anything is on disk."""
    port = free_port()
    command = [STORESCP, "--fork", "-aet", "SCANSIDE", "-od", str(folder), str(port)]
    with _listening(command, port) as running:
        yield running


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[Running]:
    """Orthanc of the distribution, without its web server and plugins."""
    port = free_port()
    config = folder / "orthanc.json"
    config.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "db"),
                "IndexDirectory": str(folder / "db"),
                "HttpServerEnabled": False,
                "DicomAet": "SCANSIDE",
                "DicomPort": port,
                "Plugins": [],
            }
        )
    )
    with _listening(["Orthanc", str(config)], port) as running:
        yield running


@contextlib.contextmanager
def orthanc_web(folder: Path) -> Iterator[Running]:
    """Orthanc of the distribution with its DICOMweb plugin; `port` is that of its web server."""
    port = free_port()
    config = folder / "orthanc.json"
    config.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "db"),
                "IndexDirectory": str(folder / "db"),
                "HttpPort": port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomServerEnabled": False,
                "Plugins": [str(DICOMWEB)],
            }
        )
    )
    with _listening(["Orthanc", str(config)], port) as running:
        yield running


@contextlib.contextmanager
def pynetdicom(folder: Path) -> Iterator[Running]:
    """pynetdicom with the shortest handler that is durable: `bench.pynetdicom_scp`."""
    port = free_port()
    command = [sys.executable, "-m", "bench.pynetdicom_scp", str(port), str(folder)]
    with _listening(command, port) as running:
        yield running


@contextlib.contextmanager
def _listening(command: list[str], port: int) -> Iterator[Running]:
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + START_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} does not listen")
                time.sleep(0.05)
            yield Running(port, process.pid)
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
