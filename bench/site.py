"""The real line on loopback, to be measured from outside: mosquitto, `scanside run`, storescu.

Everything lies in one folder and ends with the block. The factory bundle is used. `traced` makes
`work` note when it adds slices and analyses series (bench/trace).
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import json
import os
import select
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.demo.child import child, free_port

STORESCU = Path("/usr/bin/storescu")
"""dcmtk's own: pynetdicom installs a script of this name into a virtual environment."""
TREE = Path(__file__).resolve().parents[1]
LOST_S = 240.0
"""After this long without a word the line is taken as hung."""

_SETTINGS = """state = "{folder}/state"
[site]
name = "bench"
[dicom]
bind = "127.0.0.1"
port = {port}
[[dicom.allow]]
ae_title = "STAT"
host = "127.0.0.0/8"
[[dicom.allow]]
ae_title = "*"
host = "127.0.0.0/8"
[mqtt]
port = {broker}
[retain]
reserve_mb = 64
target_free_mb = 64
"""


@dataclass
class Site:
    """A running line."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    ready_s: float
    """From the start of `scanside run` until it said that all stages are ready."""
    subscriber: int
    """What mosquitto_sub prints: one line a message, topic, blank, payload."""
    heard: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    """Each message that came while we waited: seconds since 1970, topic, payload."""
    _rest: bytes = b""

    def command(self, files: Path, ae: str) -> str:
        """storescu for a shell: one association with every file of the folder."""
        words = [str(STORESCU), "-aet", ae, "-aec", "SCANSIDE", "+sd"]
        return shlex.join([*words, "127.0.0.1", str(self.port), str(files)])

    def scanner(self, ae: str, studies: Sequence[Path]) -> subprocess.Popen[bytes]:
        """A scanner that sends one study after the other."""
        script = "\n".join(self.command(files, ae) for files in studies)
        return subprocess.Popen(
            ["/bin/sh", "-ec", script],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
        )

    def ended(self, series: Collection[str]) -> None:
        """Returns when the last of these series has its closing event at the subscriber."""
        waiting = set(series)
        while waiting:
            if not select.select([self.subscriber], [], [], LOST_S)[0]:
                raise SystemExit(f"no word of {len(waiting)} series in {LOST_S:.0f} s")
            *lines, self._rest = (self._rest + os.read(self.subscriber, 1 << 20)).split(b"\n")
            for topic, _, payload in (line.partition(b" ") for line in lines):
                message = json.loads(payload)
                self.heard.append((time.time(), topic.decode(), message))
                if message.get("event") in ("analysed", "not_analysed", "failed"):
                    waiting -= self._series_of(message["report"]["report_id"])
        time.sleep(0.3)  # the broker's PUBACK to us may follow its message to the subscriber

    def _series_of(self, report_id: str) -> set[str]:
        """Which series a report is about; only the device knows."""
        found = self.rows("SELECT series_uid FROM reports WHERE report_id = ?", (report_id,))
        return {row["series_uid"] for row in found}

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Rows of the journal, read from outside; another revision may call it otherwise."""
        (path,) = (self.folder / "state").glob("journal-*.sqlite")
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return db.execute(sql, values).fetchall()


def started_in(tree: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program of this source tree."""
    return {**os.environ, "PYTHONPATH": str(tree), **environment}


def traced(file: Path, tree: Path = TREE) -> dict[str, str]:
    """The environment in which `scanside run` of a source tree writes its trace to a file."""
    paths = f"{Path(__file__).parent / 'trace'}{os.pathsep}{tree}"
    return {"PYTHONPATH": paths, "SCANSIDE_BENCH_TRACE": str(file)}


def trace(file: Path, what: str) -> list[dict[str, Any]]:
    """The calls of `add` or `finish` that a traced line has noted, in order."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [row for row in rows if row["what"] == what]


@contextlib.contextmanager
def running(
    folder: Path, environment: Mapping[str, str] | None = None, more: str = ""
) -> Iterator[Site]:
    """Broker, subscriber and all stages; `folder` may hold the state of a run before. more: further
    lines of the settings."""
    port, broker = free_port(), free_port()
    config = folder / "scanside.toml"
    config.write_text(_SETTINGS.format(folder=folder, port=port, broker=broker) + more)
    conf = folder / "mosquitto.conf"
    conf.write_text(
        f"listener {broker} 127.0.0.1\nallow_anonymous true\nlog_type error\n"
        f"user {getpass.getuser()}\n"
    )
    ready_at = str(folder / "ready")
    with contextlib.ExitStack() as stack:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        stack.enter_context(_child([str(program), "-c", str(conf)]))
        _wait_for(broker)
        subscribe = ["mosquitto_sub", "-p", str(broker), "-q", "1", "-t", "scanside/v1/#"]
        heard = stack.enter_context(_child([*subscribe, "-F", "%t %p"], stdout=subprocess.PIPE))
        ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        Path(ready_at).unlink(missing_ok=True)
        ready.bind(ready_at)
        ready.settimeout(LOST_S)
        log = stack.enter_context((folder / "appliance.log").open("ab"))
        began = time.perf_counter()
        process = stack.enter_context(
            _child(
                [sys.executable, "-m", "appliance", "run", "--config", str(config)],
                env=started_in(TREE, {**(environment or {}), "NOTIFY_SOCKET": ready_at}),
                cwd=folder,  # python -m takes what lies in the folder that it is started in
                stderr=log,
            )
        )
        ready.recv(4096)
        took = time.perf_counter() - began
        if heard.stdout is None:
            raise SystemExit("mosquitto_sub has no output")
        yield Site(folder, port, process, took, heard.stdout.fileno())


def _child(
    command: list[str], **options: Any
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A child that ends even where the bench is killed."""
    return child(command, preexec_fn=_end_with_parent, **options)


def _end_with_parent() -> None:
    """In the child: SIGTERM when the bench is killed (PR_SET_PDEATHSIG, prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")
