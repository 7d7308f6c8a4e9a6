"""The drop stage as a process, on a real journal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.results.owed import Owed
from appliance.store import bell
from appliance.store.delivery import State
from appliance.store.journal import Journal
from rigs.peers import HANG_S, until

FOLDER = "folder"


def config(at: Path) -> Path:
    path = at / "scanside.toml"
    path.write_text(f'state = "{at / "state"}"\n[drop]\nfolder = "{at / "out"}"\n')
    return path


@contextmanager
def serving(at: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`scanside drop`, from READY on."""
    name = at / "ready"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(name))
        ready.settimeout(HANG_S)
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "drop", "--config", str(config(at))],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": str(name)},
        )
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    (tmp_path / "state").mkdir()
    with Journal.open(tmp_path / "state") as opened:
        yield opened


def owe(journal: Journal, *keys: str) -> None:
    journal.owed.add(Owed(FOLDER, key, None, key.encode()) for key in keys)


def bodies(at: Path) -> list[str]:
    return [path.read_text() for path in sorted((at / "out").glob("*.json"))]


def test_it_writes_in_order_waits_for_its_folder_and_ends_on_sigterm(
    tmp_path: Path, journal: Journal
) -> None:
    owe(journal, "one", "two")
    with serving(tmp_path) as process:
        until(lambda: journal.owed.waiting(FOLDER, 1)[0].attempts)
        assert not bodies(tmp_path)
        (tmp_path / "out").mkdir()
        until(lambda: not journal.owed.counts(FOLDER).waiting)
        owe(journal, "three")
        bell.ring(tmp_path / "state", "drop")
        until(lambda: not journal.owed.counts(FOLDER).waiting)
        assert bodies(tmp_path) == ["one", "two", "three"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_S) == 0


def test_what_can_be_no_file_is_dead_and_the_rest_goes_on(tmp_path: Path, journal: Journal) -> None:
    (tmp_path / "out").mkdir()
    owe(journal, "one", "x" * 300, "two")
    with serving(tmp_path):
        until(lambda: not journal.owed.counts(FOLDER).waiting)
    assert bodies(tmp_path) == ["one", "two"]
    assert [row.key for row in journal.owed.listed(State.DEAD)] == ["x" * 300]


def test_a_second_one_says_one_line_and_ends(tmp_path: Path, journal: Journal) -> None:
    with serving(tmp_path):
        command = [sys.executable, "-m", "appliance", "drop", "--config", str(config(tmp_path))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 1
    assert "already_running" in done.stderr
    assert "Traceback" not in done.stderr
