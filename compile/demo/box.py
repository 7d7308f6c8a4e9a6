"""An installed box under `scanside run`, and a scanner that sends one study after another.

It is installed as install.sh does it: a slot that pip makes of wheels, the links, guard beside it,
the first root of trust. It never sees this checkout: its programs come from its slots alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import generate_uid

from appliance.apply.requests import Status
from appliance.demo import scanner
from appliance.demo.child import child, free_port
from appliance.errors import PeerAway, StateUnusable
from appliance.phantom import chest
from appliance.phantom.instances import series
from appliance.release.record import Range
from appliance.report import SeriesKey
from appliance.report import Status as Verdict
from appliance.store.journal import Journal
from appliance.update import slots
from appliance.update.places import Places
from appliance.update.plan import APPLIANCE, Named

READY_S = 120.0
SPACING_MM = (2.5, 1.0, 1.0)
"""(z, y, x) of the scanner's studies: small ones, so that many come during an update."""

MOST_WAITING = 3


@dataclass
class Box:
    """In `folder`; it asks the repository at `url`."""

    folder: Path
    url: str
    broker: int
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        names = ("root", "trusted", "downloads", "state")
        self.places = Places(*(self.folder / name for name in names))
        self.settings = self.folder / "scanside.toml"

    def install(
        self, wheel: Path, wheels: Sequence[Path], requirements: Path, first_root: Path
    ) -> None:
        """Slot 1 of these wheels, as an installer makes it."""
        places = self.places
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        version = wheel.name.split("-")[1]
        purpose = slots.Purpose(
            release=f"installer/{version}",
            appliance=Named(name=APPLIANCE, version=version, digest=digest),
            python=Range(at_least="3.10"),
        )
        slots.build(
            places, 1, {one.name: one for one in wheels}, requirements.read_bytes(), wheel,
            record=purpose, python=Path(sys.executable),
        )  # fmt: skip
        slots.switch(places, 1)
        shutil.copytree(slots.BUILD.parent, places.root / "guard", dirs_exist_ok=True)
        places.trusted.mkdir()
        shutil.copy(first_root, places.trusted / "1.root.json")
        self.settings.write_text(
            f"""state = "{places.state}"
[site]
name = "demo"
device = "box-1"
[dicom]
bind = "127.0.0.1"
port = {self.port}
[[dicom.allow]]
ae_title = "*"
host = "127.0.0.0/8"
[mqtt]
port = {self.broker}
[retain]
reserve_mb = 64
target_free_mb = 64
[update]
root = "{places.root}"
trusted = "{places.trusted}"
downloads = "{places.downloads}"
url = "{self.url}"
most_kb_s = 100000
"""
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """`scanside run` from slot 1; returns when all its stages are ready."""
        path = str(self.folder / "ready")
        log = self.folder / "box.log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, log.open("wb") as stderr:
            ready.bind(path)
            ready.settimeout(READY_S)
            command = [str(self.places.slot(1) / "bin" / "python"), "-m", "appliance", "run"]
            with child(
                [*command, "--config", str(self.settings)],
                stdout=stderr, stderr=stderr, cwd=self.folder,
                env={**_environment(), "NOTIFY_SOCKET": path},
            ):  # fmt: skip
                try:
                    while b"READY=1" not in ready.recv(4096):
                        pass
                except TimeoutError as e:
                    raise StateUnusable(f"the box is not ready after {READY_S:.0f} s: {log}") from e
                yield

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`scanside update WORDS` on the box."""
        return subprocess.run(
            [
                str(self.places.current / "bin" / "python"),
                *("-m", "appliance", "update", *words, "--config", str(self.settings)),
            ],
            capture_output=True, text=True, cwd=self.folder, env=_environment(), check=False,
        )  # fmt: skip

    def status(self) -> Status:
        """`scanside update status`."""
        done = self.types("status", "--json")
        if done.returncode:
            raise StateUnusable(f"the box does not say how it stands: {done.stderr.strip()}")
        return Status.model_validate_json(done.stdout)

    def analysed(self, sent: Sequence[SeriesKey]) -> list[SeriesKey]:
        """Which of the series have a report that says so."""
        journal = Journal.read(self.places.state)
        if journal is None:
            return []
        with journal:
            found = [(key, journal.reports.latest(key)) for key in sent]
        return [key for key, report in found if report and report.status is Verdict.ANALYSED]


def _environment() -> dict[str, str]:
    """Ours, without what would show this checkout to the box."""
    hidden = ("PYTHONPATH", "SCANSIDE_CONFIG", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden}


class Scanner(threading.Thread):
    """One small study after another, each with UIDs of its own, until it is stopped. The box has
    always something in hand, and at most MOST_WAITING studies wait for their report."""

    def __init__(self, box: Box) -> None:
        super().__init__(daemon=True)
        self._box = box
        self._to = scanner.Address("SCANSIDE", "127.0.0.1", box.port)
        self._ended = threading.Event()
        self._may = threading.Event()
        self._may.set()
        self._phantom = chest.chest(spacing_mm=SPACING_MM)
        self.sent: list[SeriesKey] = []
        """Series of which every image was acknowledged."""
        self.refused: list[str] = []
        """Why an association or an image was not taken."""

    def run(self) -> None:
        while not self._ended.is_set():
            if not self._may.wait(0.2) or self._waiting() >= MOST_WAITING:
                self._ended.wait(0.2)
                continue
            key = SeriesKey(generate_uid(), generate_uid())
            made = series(self._phantom, study_uid=key.study, series_uid=key.series)
            try:
                done = scanner.send(list(made), self._to)
            except PeerAway as e:
                self.refused.append(e.one_line())
                self._ended.wait(1.0)
                continue
            if done.failed:
                self.refused.append(f"{len(done.failed)} images: {done.failed[0][1]:04X}")
            else:
                self.sent.append(key)
            self._ended.wait(0.2)

    def _waiting(self) -> int:
        latest = self.sent[-MOST_WAITING:]
        return len(latest) - len(self._box.analysed(latest))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody is examined meanwhile."""
        self._may.clear()
        try:
            yield
        finally:
            self._may.set()

    def stop(self) -> None:
        """After the study in hand."""
        self._ended.set()
        self.join()
