"""One stage at a time as its own process, from the command line, on a state folder of its own; on
request under strace, which kills it (kill -9) just before a system call.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.filereader import read_file_meta_info

from appliance.demo.child import child
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from faults.syscalls import Call, calls
from rigs.programs import program
from rigs.scans import Scan

HANG_S = 120.0
TRACED = (
    "openat,write,pwrite64,fsync,fdatasync,rename,link,linkat,unlink,unlinkat,mkdir,lseek,"
    "ftruncate,sendto,recvfrom"
)
SAID = re.compile(r"Sending file: (?P<file>\S+)|Received Store Response \((?P<answer>[^)]*)\)")
SETTINGS = """state = "{state}"
[site]
name = "ward"
device = "box-1"
[dicom]
bind = "127.0.0.1"
port = 0
[[dicom.allow]]
ae_title = "SCANNER"
host = "127.0.0.1"
[mqtt]
port = {broker}
[work]
backend = "onnxruntime"
threads = 1
quiet_s = 0.4
released_quiet_s = 0.2
preliminary = false  # whether there is time for it depends on the machine
aborted_quiet_s = 0.4
[priors]
keep = false
[retain]
reserve_mb = 0
target_free_mb = 900000000  # all that may go goes at the first look
"""


@dataclass(frozen=True)
class Point:
    """The nth call of this name that names `part`, and not `without`; counted from `after` on."""

    call: str
    part: str
    nth: int = 1
    without: str | None = None
    after: Point | None = None

    def met(self, call: Call) -> bool:
        return (
            call.name in self.call.split("|")
            and self.part in call.text
            and (self.without is None or self.without not in call.text)
        )

    def index(self, seen: Sequence[Call]) -> int:
        """Where in the calls of one process it is; ValueError where it is not."""
        begin = self.after.index(seen) + 1 if self.after else 0
        found = [n for n, call in enumerate(seen[begin:], begin) if self.met(call)]
        if len(found) < self.nth:
            raise ValueError(f"{self} is not in the trace")
        return found[self.nth - 1]

    def aim(self, undisturbed: Sequence[Call]) -> tuple[str, int]:
        """(name, count): it is the count-th call of this name of its process."""
        for pid in dict.fromkeys(call.pid for call in undisturbed):
            mine = [call for call in undisturbed if call.pid == pid]
            with contextlib.suppress(ValueError):
                at = self.index(mine)
                name = mine[at].name
                return name, sum(call.name == name for call in mine[: at + 1])
        raise AssertionError(f"{self} is not in the trace")

    def again(self, seen: Sequence[Call], aimed: tuple[str, int]) -> tuple[str, int]:
        """Where to aim after a run, whose calls are `seen`, that ended beside the point: the count
        of calls that read or write a socket is another one in each run."""
        with contextlib.suppress(AssertionError):
            return self.aim(seen)  # too late
        name, count = aimed
        return name, count + 1  # too early

    def hit(self, seen: Sequence[Call]) -> bool:
        """Whether this call is one that never returned."""
        for last in (call for call in seen if call.result is None):
            mine = [call for call in seen if call.pid == last.pid]
            with contextlib.suppress(ValueError):
                return mine[self.index(mine)] is last
        return False


Running = tuple[subprocess.Popen[bytes], socket.socket]


@dataclass(frozen=True)
class Box:
    """A state folder and its settings."""

    folder: Path

    @classmethod
    def of(cls, state: Path, folder: Path, broker: int = 1883) -> Box:
        """A copy of a state folder that no process has open."""
        folder.mkdir(parents=True)
        box = cls(folder)
        shutil.copytree(state, box.state, ignore=shutil.ignore_patterns("*.sock"))
        text = SETTINGS.format(state=box.state, broker=broker)
        (folder / "scanside.toml").write_text(text)
        return box

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        with Journal.open(self.state) as journal:
            yield journal

    def instances(self) -> dict[str, bytes]:
        """SOP Instance UID -> file, of everything acknowledged."""
        spool = Spool(self.state)
        return {
            uid: path.read_bytes()
            for key in spool.series()
            for uid, path in spool.instances(key).items()
        }

    @contextlib.contextmanager
    def stage(self, name: str, under: Sequence[str] = ()) -> Iterator[Running]:
        config = str(self.folder / "scanside.toml")
        command = [*under, sys.executable, "-m", "appliance", name, "--config", config]
        told = self.folder / "ready"  # sd_notify(3)
        told.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(told))
            ready.setblocking(False)
            environment = {**os.environ, "NOTIFY_SOCKET": str(told)}
            with (
                (self.folder / f"{name}.log").open("ab") as log,
                child(command, stderr=log, stdout=log, env=environment) as process,
            ):
                yield process, ready

    def run(self, name: str, done: Callable[[], Any], trace: Path | None = None) -> list[Call]:
        """A stage until `done`; its calls, where there is a trace of them."""
        with self.stage(name, strace_command(trace, None, "-D") if trace else ()) as (
            process,
            ready,
        ):
            wait(lambda: is_ready(ready) or process.poll() is not None, f"{name}: {self.log(name)}")
            wait(lambda: done() or process.poll() is not None, f"{name}: {self.log(name)}")
        assert process.returncode == 0, self.log(name)
        return ended(trace, "+++ exited with 0 +++") if trace else []

    def run_until_killed(self, name: str, trace: Path, kill: tuple[str, int]) -> list[Call]:
        with self.stage(name, strace_command(trace, kill, "-D")) as (process, _):
            process.wait(HANG_S)
            assert process.returncode == -signal.SIGKILL, self.log(name)
        return ended(trace, "+++ killed by SIGKILL +++")

    def receive(
        self, scan: Scan, trace: Path | None = None, kill: tuple[str, int] | None = None
    ) -> tuple[dict[str, str], list[Call]]:
        """`receive` while storescu sends a series: (SOP Instance UID -> answer, calls)."""
        port = self.state / "run" / "receive.port"
        port.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            process, _ = stack.enter_context(self.stage("receive"))
            wait(lambda: port.exists() or process.poll() is not None, "listening")
            tracer = None
            if trace:
                command = strace_command(trace, kill, "-p", str(process.pid))
                tracer = stack.enter_context(child(command, stderr=subprocess.PIPE))
                assert tracer.stderr is not None
                assert b"attached" in tracer.stderr.readline()
            answers = send(int(port.read_text()), scan)
            if kill:
                process.kill()  # as the service manager does with what is left of a stage
            else:
                process.terminate()
            process.wait(HANG_S)
            if tracer:
                tracer.wait(HANG_S)
        return answers, list(calls(trace)) if trace else []

    def age_incoming(self) -> None:
        """What a killed stage left there is old."""
        for path in (self.state / "incoming").iterdir():
            os.utime(path, (0, 0))

    def log(self, stage: str) -> str:
        return (self.folder / f"{stage}.log").read_text(errors="replace")[-3000:]


def strace_command(trace: Path, kill: tuple[str, int] | None, *how: str) -> list[str]:
    """No --seccomp-bpf here: with it strace 6.1 does not inject signals."""
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("strace is not installed (apt install strace)")
    options = ["-f", "-y", "-xx", "-s", "65536", "-e", f"trace={TRACED}", "-o", str(trace)]
    if kill:
        options += ["-e", f"inject={kill[0]}:signal=SIGKILL:when={kill[1]}"]
    return [tracer, *options, *how]


def ended(trace: Path, last: str) -> list[Call]:
    """A detached tracer writes its last line after the process that it traces is gone."""
    wait(lambda: trace.read_text().rstrip().endswith(last), "end of the trace")
    return list(calls(trace))


def is_ready(told: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        return b"READY=1" in told.recv(4096)
    return False


def wait(found: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + HANG_S
    while not found():
        assert time.monotonic() < end, f"no {what} within {HANG_S:.0f} s"
        time.sleep(0.02)


def send(port: int, scan: Scan) -> dict[str, str]:
    """One association of storescu: SOP Instance UID -> what it was answered."""
    command = [program("storescu"), "-v", "-aet", "SCANNER", "-aec", "SCANSIDE", "-nh"]
    done = subprocess.run(
        [*command, "127.0.0.1", str(port), *map(str, scan.files)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=HANG_S,
        check=False,
    )
    answers, file = {}, ""
    for said in SAID.finditer(done.stdout.decode(errors="replace")):
        if said["file"]:
            file = said["file"]
        else:
            answers[str(read_file_meta_info(file).MediaStorageSOPInstanceUID)] = said["answer"]
    return answers


class Subscriber:
    """mosquitto_sub with a session of its own: (topic, payload) in order."""

    def __init__(self, stack: contextlib.ExitStack, port: int) -> None:
        command = [program("mosquitto_sub"), "-p", str(port), "-q", "1", "-c", "-i", "consumer"]
        command += ["-V", "5", "-x", "3600", "-t", "scanside/v1/#", "-F", "%t %p"]
        self.said: list[tuple[str, str]] = []
        process = stack.enter_context(child(command, stdout=subprocess.PIPE))
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()

    def _listen(self, output: Any) -> None:
        for line in output:
            topic, _, payload = line.decode().rstrip("\n").partition(" ")
            self.said.append((topic, payload))
