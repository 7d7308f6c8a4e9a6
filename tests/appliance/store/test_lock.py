"""Locks: one process of a kind, and one change at a time."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import appliance
from appliance.errors import StateUnusable
from appliance.store.lock import alone, is_byte_held, is_held, locked, locked_soon, sharing


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with alone(tmp_path / "state", "work"):
        with (
            pytest.raises(StateUnusable, match="another `scanside work`") as refused,
            alone(tmp_path / "state", "work"),
        ):
            pass
        assert refused.value.code == "already_running"
        with alone(tmp_path / "state", "run"), alone(tmp_path / "other", "work"):
            pass
    with alone(tmp_path / "state", "work"):
        pass


def test_others_see_whether_it_is_held_and_looking_takes_nothing_away(tmp_path: Path) -> None:
    assert is_held(tmp_path, "work") is None
    with alone(tmp_path, "work"):
        assert is_held(tmp_path, "work") is True
    assert is_held(tmp_path, "work") is False
    with alone(tmp_path, "work"):
        pass


def test_a_lock_is_waited_for_unless_both_share_it(tmp_path: Path) -> None:
    path, done = tmp_path / "lock", threading.Event()

    def wait_for_it(*, shared: bool) -> threading.Thread:
        def take() -> None:
            with locked(path, shared=shared):
                done.set()

        done.clear()
        thread = threading.Thread(target=take)
        thread.start()
        return thread

    with locked(path, shared=True):
        wait_for_it(shared=True).join(20)
        assert done.is_set()
        alone_thread = wait_for_it(shared=False)
        assert not done.wait(0.1)
    alone_thread.join(20)
    assert done.is_set()


def test_a_byte_that_another_process_holds_is_seen_and_stays_held(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert not is_byte_held(path, 128)
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'w+b');"
        "fcntl.lockf(file, fcntl.LOCK_SH, 1, 128); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_byte_held(path, 128)
        assert is_byte_held(path, 128)
        assert not is_byte_held(path, 127)
        holder.kill()
    assert not is_byte_held(path, 128)


def test_a_lock_that_cannot_be_made_is_state_unusable(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable), locked(tmp_path / "not" / "there"):
        pass


def test_there_is_one_implementation_of_locks_and_one_of_bells() -> None:
    root = Path(appliance.__file__).parent
    sources = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*.py")}
    locks = re.compile(r"\b(flock|lockf)\b|_SETLK")
    assert [name for name, text in sources.items() if locks.search(text)] == ["store/lock.py"]
    assert [name for name, text in sources.items() if '.sock"' in text] == ["store/bell.py"]


def test_who_cannot_wait_is_told_that_another_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path), locked_soon(path, 0.0) as held:
        assert not held
    with locked_soon(path, 0.0) as held:
        assert held
        with locked_soon(path, 0.02) as again:
            assert not again


def test_who_shares_a_lock_knows_whether_others_do_and_what_the_last_one_wrote(
    tmp_path: Path,
) -> None:
    path = tmp_path / "users"
    with sharing(path) as one:
        assert one.alone()
        assert one.words() == b""
        with sharing(path) as other:
            assert not one.alone()
            assert not other.alone()
        assert one.alone()
        one.write(b"a long word")
        one.write(b"word")
    with sharing(path) as next_one:
        assert next_one.words() == b"word"
