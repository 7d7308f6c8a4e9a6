"""The socket of `apply`: who may ask, how much, and that nobody keeps others out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.apply import decided, door
from appliance.apply.audit import FILE, Audit
from appliance.apply.door import MOST_BYTES, MOST_CONNECTIONS, SOCKET, Door, Peer, ask, opened
from appliance.apply.notes import Notes
from appliance.apply.requests import Answer, Request, Requests
from appliance.settings import Update


def nothing(request: Request, actor: str) -> Answer:
    return Answer(ok=False, code="nothing", text=f"{actor} asked for {request.verb}")


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path)


@pytest.fixture
def path(notes: Notes) -> Iterator[Path]:
    """A door that is open, and its socket."""
    audit = Audit(notes.folder, lambda: datetime.now(timezone.utc), lambda *_: None)
    requests = Requests(notes, Update(), audit.add, lambda: None, nothing, decided.of(notes.folder))
    with opened(notes.folder, {}) as listening:
        made = Door(listening, requests)
        made.open()
        yield notes.folder / SOCKET
        made.close()
    assert not (notes.folder / SOCKET).exists()


def test_a_wish_is_on_the_disk_and_in_the_audit_before_it_is_answered(
    path: Path, notes: Notes
) -> None:
    assert ask(path, Request(verb="hold")).ok
    assert notes.holds()
    line = (notes.folder / FILE).read_text()
    assert '"action": "update hold"' in line
    assert "@socket" in line
    assert ask(path, Request(verb="release")).ok
    assert not notes.holds()


def test_its_socket_is_for_its_user_and_group_alone(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o660


def test_the_kernel_says_who_asks() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert door.peer_of(ours) == Peer(os.getpid(), os.geteuid(), os.getegid())
    assert Peer(1, 0, 0).may()
    assert Peer(1, os.geteuid(), 0).may()
    assert not Peer(1, 54321, 54321).may()


def test_who_may_not_is_told_how_and_nothing_changes(
    path: Path, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "peer_of", lambda _: Peer(1, 54321, 54321))
    answer = ask(path, Request(verb="hold"))
    assert (answer.ok, answer.code) == (False, "update_not_permitted")
    assert door.GROUP in answer.remedy
    assert not notes.holds()
    assert ask(path, Request(verb="status")).code == "update_no_status", "that may be asked"


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b'{"verb":"shutdown"}\n', b'{"verb":"hold","x":1}\n', b"\xff\n"]
)
def test_what_is_no_request_is_answered_and_does_nothing(
    path: Path, notes: Notes, line: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(line)
        assert b'"code":"update_request"' in connection.recv(4096)
    assert not notes.holds()


def test_a_line_that_is_too_long_is_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        try:
            connection.sendall(b"x" * (MOST_BYTES * 4))
        except OSError:
            return
        assert connection.recv(10) == b""


def test_who_says_nothing_is_left_in_the_end_and_keeps_nobody_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "WITHIN_S", 0.5)
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            silent = stack.enter_context(socket.socket(socket.AF_UNIX))
            silent.connect(str(path))
        end = time.monotonic() + 60
        while True:
            try:
                assert ask(path, Request(verb="hold")).ok
                break
            except (OSError, ValueError):
                assert time.monotonic() < end
    assert threading.active_count() < 3 * MOST_CONNECTIONS


def test_the_socket_that_systemd_passes_is_used_and_left_open(notes: Notes) -> None:
    """In a child: descriptor 3 is what a service manager passes."""
    code = (
        "import os, socket, sys\n"
        "from pathlib import Path\n"
        "from appliance.apply.door import opened\n"
        "held = socket.socket(socket.AF_UNIX); held.bind(sys.argv[1]); held.listen()\n"
        "os.dup2(held.fileno(), 3)\n"
        "with opened(Path('/nowhere'), {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}) as s:\n"
        "    print(s.getsockname())\n"
        "print(Path(sys.argv[1]).exists())\n"
    )
    at = str(notes.folder / "passed")
    done = subprocess.run(
        [sys.executable, "-c", code, at], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [at, "True"]
