"""`scanside run`: all real stages under one parent, restarted when killed, stopped together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import stages
from appliance.settings import Settings

NAMES = {row.name for row in stages.of(Settings())}
REPOSITORY = Path(__file__).resolve().parents[3]
PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def children(pid: int) -> dict[str, int]:
    """Stage name -> pid of each living child."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if int(fields[1]) == pid and fields[0] != "Z" and b"appliance" in words:
                    found[words[words.index(b"appliance") + 1].decode()] = int(folder.name)
    return found


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.05)


class Parent:
    """`python -m appliance run` with its settings, its log and its notify socket."""

    def __init__(self, folder: Path, port: int, more: str = "") -> None:
        """more: further lines of the settings."""
        config = folder / "scanside.toml"
        config.write_text(
            f'state = "{folder / "state"}"\n[dicom]\nbind = "127.0.0.1"\nport = {port}\n'
            f"[mqtt]\nport = {free_port()}\n[work]\nbackend = 'onnxruntime'\nthreads = 1\n{more}"
        )
        self.port = port
        self.log = folder / "log"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(PATIENCE_S)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "appliance", "run", "--config", str(config)],
                stderr=log,
                stdout=log,
                env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
                cwd=REPOSITORY,
                start_new_session=True,
                # as in a terminal: under nohup it would be ignored here, and then there too
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509 - one thread
            )

    def wait_ready(self) -> None:
        message = b""
        while b"READY=1" not in message:
            message = self.notify.recv(4096)

    def listens(self) -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        """Whatever a test left."""
        left = children(self.process.pid)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in left.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.notify.close()


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    started = Parent(tmp_path, free_port())
    yield started
    started.end()


def test_the_stage_for_archives_starts_only_where_there_are_archives(tmp_path: Path) -> None:
    more = f"[[deliver]]\nname = 'pacs'\nhost = '127.0.0.1'\nport = {free_port()}\n"
    started = Parent(tmp_path, free_port(), f"{more}called_ae = 'PACS'\n")
    try:
        started.wait_ready()
        assert set(children(started.process.pid)) == NAMES | {"deliver"}
        started.process.terminate()
        assert started.process.wait(PATIENCE_S) == 0
    finally:
        started.end()


def test_all_stages_start_a_killed_one_comes_back_and_sigterm_stops_all(parent: Parent) -> None:
    parent.wait_ready()
    before = children(parent.process.pid)
    assert set(before) == NAMES >= {"publish", "work", "receive", "retain"}
    assert parent.listens()
    os.kill(before["work"], signal.SIGKILL)
    until(
        lambda: children(parent.process.pid).get("work") not in {None, before["work"]},
        "work is started again",
    )
    after = children(parent.process.pid)
    assert {**after, "work": 0} == {**before, "work": 0}  # the others went on
    assert re.search(r"work ended with -9; next start in 1 s", parent.log.read_text())
    os.kill(after["receive"], signal.SIGKILL)
    until(lambda: children(parent.process.pid).keys() == NAMES, "receive is started again")
    until(parent.listens, "receive listens again")
    everyone = children(parent.process.pid)
    socket_of_work = Path(parent.log.parent / "state" / "run" / "work.sock")
    until(socket_of_work.exists, "work hears again")
    parent.process.terminate()
    assert parent.process.wait(PATIENCE_S) == 0, parent.log.read_text()
    assert not [pid for pid in everyone.values() if Path(f"/proc/{pid}").exists()]
    assert not parent.listens()
    assert "Traceback" not in parent.log.read_text()


def test_no_stage_outlives_a_parent_that_is_killed(parent: Parent) -> None:
    parent.wait_ready()
    everyone = children(parent.process.pid)
    parent.process.kill()
    parent.process.wait()
    until(
        lambda: not [pid for pid in everyone.values() if Path(f"/proc/{pid}").exists()],
        "every stage ends with its parent",
    )


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)]
)
def test_ctrl_c_or_a_closed_terminal_stops_all_with_exit_0(
    parent: Parent, number: signal.Signals
) -> None:
    parent.wait_ready()
    everyone = children(parent.process.pid)
    os.killpg(parent.process.pid, number)  # as a terminal does
    assert parent.process.wait(PATIENCE_S) == 0, parent.log.read_text()
    assert not [pid for pid in everyone.values() if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in parent.log.read_text()


def test_a_wrong_settings_file_is_one_line_and_starts_nothing(tmp_path: Path) -> None:
    config = tmp_path / "scanside.toml"
    config.write_text(f'state = "{tmp_path / "state"}"\n[mqtt]\nhots = "x"\n')
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "run", "--config", str(config)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert "mqtt.hots" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_second_parent_on_one_state_folder_is_one_line_and_the_first_goes_on(
    parent: Parent,
) -> None:
    parent.wait_ready()
    before = children(parent.process.pid)
    config = parent.log.parent / "scanside.toml"
    for verb, code in (("run", "already_running"), ("work", "already_running")):
        done = subprocess.run(
            [sys.executable, "-m", "appliance", verb, "--config", str(config)],
            capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=REPOSITORY,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.strip().splitlines() == [done.stderr.strip()]
        assert f"[{code}]" in done.stderr
    assert children(parent.process.pid) == before
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hint:  # work still hears
        hint.sendto(b"{}", str(parent.log.parent / "state" / "run" / "work.sock"))
