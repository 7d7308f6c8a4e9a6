"""An appliance in two slots under the real `scanside run`; each slot is this interpreter."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from appliance.demo.child import free_port
from appliance.update import guard
from appliance.update.places import Places
from appliance.update.units import Parent
from rigs.peers import HANG_S, until

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Slotted:
    """`scanside run` with [update] root; `more` are further lines of its settings."""

    folder: Path
    more: str = ""
    port: int = field(default_factory=free_port)
    temporary: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="slots-")))
    """For its sockets, whose paths must be short, as those of a test are not (unix(7))."""

    def __post_init__(self) -> None:
        at = self.folder
        self.places = Places(at / "root", at / "trusted", at / "downloads", at / "state")
        self.log = at / "run.log"
        for number in (1, 2):
            self.python(number, 'exec {real} "$@"')
        self.link("current", 1)
        self.link("previous", 1)
        (self.places.root / "guard").mkdir()
        script = Path(guard.__file__).with_name("guard.sh")
        shutil.copy(script, self.places.root / "guard")
        self.places.environment(1).parent.mkdir(parents=True)

    def python(self, slot: int, script: str) -> None:
        """What the Python of a slot does: lines of sh; {real} is this interpreter."""
        path = self.places.slot(slot) / "bin" / "python"
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_name("python.new")
        temp.write_text(f"#!/bin/sh\n{textwrap.dedent(script).format(real=sys.executable)}\n")
        temp.chmod(0o755)
        temp.replace(path)

    def link(self, name: str, slot: int) -> None:
        temp = self.places.root / f".{name}"
        temp.symlink_to(f"slots/{slot}")
        temp.replace(self.places.root / name)

    def begin_trial(self, stages: str) -> None:
        """As `apply` does: slot 2 becomes `current`, and is on trial."""
        self.places.environment(2).write_text("SCANSIDE_TRIAL=1\n")
        self.link("current", 2)
        temp = self.places.trusted / ".trial"
        temp.write_text(f"slot=2\nprevious=1\nstages={stages}\nstate={self.places.state}\n")
        temp.replace(self.places.trial)

    def start(self) -> None:
        config = self.folder / "scanside.toml"
        places = self.places
        config.write_text(
            f'state = "{places.state}"\n[dicom]\nbind = "127.0.0.1"\nport = {self.port}\n'
            f'[[dicom.allow]]\nae_title = "*"\nhost = "127.0.0.1"\n[mqtt]\nport = {free_port()}\n'
            f"[work]\nbackend = 'onnxruntime'\nthreads = 1\n"
            f'[update]\nroot = "{places.root}"\ntrusted = "{places.trusted}"\n{self.more}'
        )
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.temporary / "notify"))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "appliance", "run", "--config", str(config)],
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={
                    **os.environ,
                    "NOTIFY_SOCKET": str(self.temporary / "notify"),
                    "TMPDIR": str(self.temporary),
                },
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Until all stages serve."""
        self.notify.settimeout(1)
        end = time.monotonic() + HANG_S
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            with suppress(TimeoutError):
                if b"READY=1" in self.notify.recv(4096):
                    return
        raise AssertionError(self.log.read_text()[-4000:])

    @property
    def units(self) -> Parent:
        """What `apply` would have."""
        found: list[Path] = until(lambda: list(self.temporary.glob("scanside-run-*/control")))
        return Parent(found[0])

    def end(self) -> int:
        """As a service manager ends it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(HANG_S)
        finally:
            self.process.kill()
            self.notify.close()
            shutil.rmtree(self.temporary)
