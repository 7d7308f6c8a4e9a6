"""What is asked of `scanside run` by files: every wrong request is answered, and harms nothing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.run.child import Child, Family
from appliance.run.control import KEPT_S, Control
from rigs.peers import until

STAGE = """#!/bin/sh
exec python3 -c '
import os, signal, socket, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(600)'
"""


class Asked:
    """A control folder whose children are a small program."""

    def __init__(self, folder: Path) -> None:
        program = folder / "python"
        program.write_text(STAGE)
        program.chmod(0o755)
        self.family = Family(
            folder, folder / "state", None, lambda *_: str(program), lambda *_: {}, None
        )
        self.children: dict[tuple[str, int], Child] = {}
        known = frozenset({"work", "receive", "apply"})
        self.control = Control(folder / "control", self.children, known, self.add)

    def add(self, name: str, slot: int) -> Child:
        child = self.children[name, slot] = Child.of(name, slot, self.family)
        return child

    def turn(self) -> None:
        now = time.monotonic()
        self.control.turn(now)
        for key, child in list(self.children.items()):
            child.hear()
            child.turn(now)
            if child.gone:
                self.children.pop(key).close()

    def put(self, ident: str, line: bytes) -> None:
        (self.control.folder / f"{ident}.req").write_bytes(line)

    def answer(self, ident: str) -> str | None:
        self.turn()
        path = self.control.folder / f"{ident}.rep"
        return path.read_text() if path.exists() else None

    def ask(self, line: str) -> str:
        self.put("a", line.encode())
        said: str = until(lambda: self.answer("a"))
        (self.control.folder / "a.rep").unlink()
        return said.strip()


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    made = Asked(tmp_path)
    yield made
    for child in made.children.values():
        child.close()


@pytest.mark.parametrize(
    "line",
    [b"", b"start", b"start work", b"start work -1", b"start ../work 1", b"start work 1; ls",
     b"start work 1\nstop work 1\n", b"boot work 1", b"\xff\xfe", b"start work " + b"9" * 100],
)  # fmt: skip
def test_what_makes_no_sense_is_taken_and_does_nothing(asked: Asked, line: bytes) -> None:
    asked.put("a", line)
    asked.turn()
    assert asked.children == {}
    assert not (asked.control.folder / "a.req").exists(), "not read again and again"
    assert asked.answer("a") == "failed this is no request\n"


def test_a_stage_that_nobody_configured_is_absent_and_starting_it_does_nothing(
    asked: Asked,
) -> None:
    assert asked.ask("start deliver 2") == "ok"
    assert asked.ask("state deliver 2") == "ok absent"
    assert asked.children == {}


def test_a_start_while_it_ends_begins_again_once_it_has_ended(asked: Asked) -> None:
    assert asked.ask("start work 2") == "ok"
    first = asked.children["work", 2].process
    assert first is not None
    asked.put("s", b"stop work 2\n")
    asked.turn()
    assert asked.ask("start work 2") == "ok"
    second = asked.children["work", 2].process
    assert second is not None
    assert second.pid != first.pid
    assert until(lambda: asked.answer("s")) == "ok\n", "who asked for the end is answered too"
    assert asked.ask("state work 2") == "ok ready"


def test_a_start_that_is_stopped_meanwhile_is_told_so(asked: Asked) -> None:
    asked.put("b", b"start work 2\n")
    asked.put("c", b"stop work 2\n")
    assert until(lambda: asked.answer("b")) == "failed it was stopped meanwhile\n"
    assert until(lambda: asked.answer("c")) == "ok\n"


def test_one_that_is_killed_is_still_wanted(asked: Asked) -> None:
    assert asked.ask("start work 2") == "ok"
    assert asked.ask("kill work 2") == "ok"
    until(lambda: asked.ask("state work 2") == "ok failed")
    until(lambda: asked.ask("state work 2") == "ok ready")


def test_apply_is_one_whatever_slot_is_named(asked: Asked) -> None:
    assert asked.ask("start apply 1") == "ok"
    assert asked.ask("state apply 7") == "ok ready"
    assert list(asked.children) == [("apply", 0)]


def test_an_answer_that_nobody_takes_is_removed_in_the_end(asked: Asked) -> None:
    asked.put("a", b"state work 1\n")
    assert asked.answer("a") == "ok absent\n"
    path = asked.control.folder / "a.rep"
    asked.turn()
    assert path.exists()
    old = time.time() - KEPT_S - 1
    os.utime(path, (old, old))
    asked.turn()
    assert not path.exists()


def test_a_child_gets_the_socket_that_the_parent_holds(tmp_path: Path) -> None:
    """sd_listen_fds(3): descriptor 3, and the process id that it is meant for."""
    program = tmp_path / "python"
    program.write_text(
        f"#!/bin/sh\necho $$ $LISTEN_PID $LISTEN_FDS >{tmp_path}/said\n"
        f"readlink /proc/$$/fd/3 >>{tmp_path}/said\nexec sleep 600\n"
    )
    program.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        family = Family(tmp_path, tmp_path, None, lambda *_: str(program), lambda *_: {}, listening)
        child = Child.of("receive", 2, family)
        child.turn(time.monotonic())
        try:
            until(lambda: (tmp_path / "said").exists() and len(said(tmp_path)) == 4)
            pid, meant_for, count, handed = said(tmp_path)
            assert (meant_for, count) == (pid, "1")
            assert handed == os.readlink(f"/proc/self/fd/{listening.fileno()}")
        finally:
            child.close()


def said(folder: Path) -> list[str]:
    return (folder / "said").read_text().split()
