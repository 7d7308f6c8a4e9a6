"""The line as systemd runs it: each stage a process of its own, started again when it ends.

Each may run under another program (strace, prlimit) or with another environment (libfaketime), and
the state folder may be a small file system of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.demo.child import child, free_port
from appliance.naming import Naming
from appliance.settings import load
from appliance.store.site_key import site_key
from rigs.programs import program
from rigs.site import Broker, Site, listen

HANG_S = 60.0
SUCCESS, OUT_OF_RESOURCES = "Success", "Refused: OutOfResources"
"""storescu's words for 0000 and A700 (PS3.4 B.2.3)."""
SAID = re.compile(r"Sending file: (?P<file>\S+)|Received Store Response \((?P<answer>[^)]*)\)")
STAGES = ("publish", "work", "receive", "retain")
SETTINGS = """state = "{state}"
[site]
name = "ward"
device = "box-1"
[dicom]
bind = "127.0.0.1"
port = {port}
[[dicom.allow]]
ae_title = "SCANNER"
host = "127.0.0.0/8"
[mqtt]
port = {broker}
[work]
backend = "onnxruntime"
quiet_s = 1.2
released_quiet_s = 0.5
aborted_quiet_s = 2
threads = 1
[priors]
keep = false
[retain]
reserve_mb = {reserve_mb}
target_free_mb = 0
days = 1
"""


@dataclass
class Kept:
    """One stage that is started again, half a second after it ended."""

    name: str
    config: Path
    log: Any
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    """How each of its processes ended."""
    process: subprocess.Popen[bytes] | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """SIGTERM for it and what it runs under; killed if that does not help."""
        self._stopped.set()
        assert self._thread is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process is not None and self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, number)  # its own group: it leads a session
            self._thread.join(45)
        assert not self._thread.is_alive()

    def _keep(self) -> None:
        command = [*self.prefix, sys.executable, "-m", "appliance", self.name, "--config"]
        while not self._stopped.is_set():
            self.process = subprocess.Popen(
                [*command, str(self.config)],
                stderr=self.log,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
            self.codes.append(self.process.wait())
            self._stopped.wait(0.5)


@dataclass
class Line:
    """A site (what the scanner sends, what the subscriber hears) and its stages."""

    site: Site
    kept: dict[str, Kept]

    def begin(self, name: str, *prefix: str, **environment: str) -> Kept:
        """Start a stage, or start it again under something else."""
        self.end(name)
        log = (self.site.folder / "appliance.log").open("ab")
        self.kept[name] = Kept(name, self.site.config, log, prefix, environment)
        self.kept[name].start()
        if name == "receive":
            self.site.until(self.answers, "port of receive", HANG_S)
        return self.kept[name]

    def end(self, name: str) -> None:
        if kept := self.kept.pop(name, None):
            kept.stop()
            kept.log.close()

    def answers(self) -> bool:
        port = self.site.settings.dicom.port
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return True
        return False

    def store(self, files: Sequence[Path]) -> dict[Path, str | None]:
        """storescu in one association: what it said of each answer, None where none came."""
        command = [program("storescu"), "-v", "-nh", "-aet", "SCANNER", "-aec", "SCANSIDE"]
        command += ["127.0.0.1", str(self.site.settings.dicom.port), *map(str, files)]
        done = subprocess.run(
            command,
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HANG_S,
            check=False,
        )
        found: dict[Path, str | None] = dict.fromkeys(files)
        file = None
        for said in SAID.finditer(done.stdout.decode(errors="replace")):
            if said["file"]:
                file = Path(said["file"])
            elif file is not None:
                found[file] = said["answer"]
        return found


@contextlib.contextmanager
def line(
    folder: Path,
    state: Path,
    installed: Path,
    *,
    reserve_mb: int = 0,
    stages: Sequence[str] = STAGES,
    **environment: str,
) -> Iterator[Line]:
    """The whole line with its state in `state`, a copy of `installed`."""
    shutil.copytree(installed, state, dirs_exist_ok=True)
    broker = Broker(folder)
    broker.start()
    config = folder / "scanside.toml"
    config.write_text(
        SETTINGS.format(state=state, port=free_port(), broker=broker.port, reserve_mb=reserve_mb)
    )
    settings = load(config)
    subscribe = [program("mosquitto_sub"), "-p", str(broker.port), "-q", "1", "-c", "-i", "ward"]
    subscribe += ["-V", "5", "-x", "3600", "-t", "scanside/v1/#", "-F", "%t %p"]
    with contextlib.ExitStack() as stack:
        stack.callback(broker.stop)
        subscriber = stack.enter_context(
            child(subscribe, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        naming = Naming(site_key(settings.state))
        site = Site(folder, config, settings, broker, process=None, naming=naming)  # type: ignore[arg-type]
        threading.Thread(target=listen, args=(site, subscriber.stdout), daemon=True).start()
        running = Line(site, {})
        stack.callback(lambda: [running.end(name) for name in reversed(list(running.kept))])
        for name in stages:
            running.begin(name, **environment)
        yield running


@contextlib.contextmanager
def small_disk(at: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs of so many MiB mounted on the folder `at`."""
    if os.geteuid() != 0:
        pytest.skip("a small file system is mounted by root only")
    at.mkdir()
    mount = [program("mount"), "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(at)]
    if subprocess.run(mount, capture_output=True, check=False, timeout=20).returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        yield at
    finally:
        subprocess.run([program("umount"), "-l", str(at)], check=True, timeout=20)


def fill(disk: Path, leave: int) -> Path:
    """Take all of a file system but `leave` bytes."""
    path = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        if free > leave:
            os.posix_fallocate(handle, os.fstat(handle).st_size, free - leave)
    except OSError:
        pass  # others write at the same time: it is full
    finally:
        os.close(handle)
    return path


def wait_for(found: Any, what: str, within_s: float = HANG_S) -> Any:
    """Until `found()` gives something."""
    end = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < end, f"no {what} within {within_s:.0f} s"
        time.sleep(0.05)
    return answer
