"""A real Orthanc with DICOMweb as a child process: the archive that results are sent to.

Rules
1. Its folder and its ports are its own. The web server answers this machine alone; the DICOM port,
   for which Orthanc has no such setting, takes objects only from the titles in `senders`, and only
   from this machine.
2. It keeps what it has: an object under a UID that it knows is answered with success and dropped.
3. It is ended by its process id, whatever became of the test.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rigs.peers import HANG_S, free_port, until
from rigs.programs import program

AE_TITLE = "ORTHANC"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """Runs while the context is open. Skips the test where Orthanc or its plugin is missing.

    senders: AE title -> port of 127.0.0.1 where it takes storage commitment reports.
    more: settings of orthanc.json, over those of here.
    """

    def __init__(
        self,
        folder: Path,
        *,
        senders: Mapping[str, int] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.program = program("Orthanc")
        if not PLUGIN.exists():
            pytest.skip("the DICOMweb plugin of Orthanc is not installed (orthanc-dicomweb)")
        self.port, self.dicom_port = free_port(), free_port()
        self.log = folder / "orthanc.log"
        self.settings = folder / "orthanc.json"
        modalities = {
            title: {"AET": title, "Host": "127.0.0.1", "Port": port}
            for title, port in (senders or {}).items()
        }
        said = {
            "StorageDirectory": str(folder / "orthanc"),
            "IndexDirectory": str(folder / "orthanc"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": AE_TITLE,
            "DicomPort": self.dicom_port,
            "DicomModalities": modalities,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomCheckModalityHost": True,
            "OverwriteInstances": False,
            **(more or {}),
        }
        self.settings.write_text(json.dumps(said))
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Orthanc:
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [self.program, str(self.settings)],
                env={**os.environ, "TCP_NODELAY": "1"},  # dcmtk waits 40 ms an object without
                stdout=log,
                stderr=log,
            )
        until(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.child is not None
        self.child.terminate()
        try:
            self.child.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(HANG_S)

    def _answers(self) -> bool:
        assert self.child is not None
        assert self.child.poll() is None, self.log.read_text(errors="replace")
        with suppress(OSError):
            self.get("/system")
            return True
        return False

    def get(self, path: str) -> bytes:
        """What its REST interface answers; urllib's HTTPError from 400 on."""
        return self._asked(path)

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def store(self, objects: Iterable[bytes]) -> None:
        """Part-10 files in, by REST."""
        for one in objects:
            self._asked("/instances", one)

    def _asked(self, path: str, body: bytes | None = None) -> bytes:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, body, timeout=HANG_S) as answer:
            data: bytes = answer.read()
            return data
