"""The pause before a start that follows quick ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.store import starts
from appliance.store.heartbeat import Heart
from appliance.store.starts import FREE, LONGEST_S, counted, pause_s

SYSTEMD = {"SYSTEMD_EXEC_PID": str(os.getpid())}


class Died(Exception):
    """A stage that ended by itself."""


def live(state: Path, *, dies: bool, environ: dict[str, str] | None = None) -> list[float]:
    """One life of `work`; how long it waited before."""
    waited: list[float] = []
    try:
        with counted(state, "work", sleep=waited.append, environ=environ or SYSTEMD):
            if dies:
                raise Died
    except Died:
        pass
    return waited


def test_the_pause_grows_from_nothing_to_five_minutes() -> None:
    pauses = [pause_s(quick) for quick in range(12)]
    assert pauses[:FREE] == [0.0] * FREE
    assert pauses[FREE:] == sorted(pauses[FREE:])
    assert pauses[FREE] == 10.0
    assert pauses[-1] == LONGEST_S == pause_s(10**9)


def test_quick_ends_in_a_row_cost_a_growing_pause(tmp_path: Path) -> None:
    waited = [live(tmp_path, dies=True) for _ in range(6)]
    assert waited == [[], [], [], [10.0], [20.0], [40.0]]
    assert live(tmp_path, dies=True)[0] > 40.0


def test_a_stop_on_purpose_ends_the_count(tmp_path: Path) -> None:
    for _ in range(4):
        live(tmp_path, dies=True)
    assert live(tmp_path, dies=False)
    assert not live(tmp_path, dies=True)


def test_a_stage_that_has_worked_for_a_minute_ends_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        live(tmp_path, dies=True)
    heart = Heart(tmp_path, "work")
    heart.beat()
    assert live(tmp_path, dies=True), "not yet"
    monkeypatch.setattr(starts, "LASTED_S", 0.0)
    heart.beat()
    assert not live(tmp_path, dies=True)


@pytest.mark.parametrize("parent", [{"PATH": "/bin"}, {"SYSTEMD_EXEC_PID": str(os.getppid())}])
def test_a_person_and_the_parent_of_all_stages_wait_for_nothing(
    tmp_path: Path, parent: dict[str, str]
) -> None:
    for _ in range(6):
        live(tmp_path, dies=True)
    assert not live(tmp_path, dies=True, environ=parent)
    assert live(tmp_path, dies=True)


@pytest.mark.parametrize("data", [b"", b"{", b'{"quick": -1}'])
def test_a_count_that_cannot_be_read_costs_no_pause(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "work.starts").write_bytes(data)
    assert not live(tmp_path, dies=True)


def test_a_disk_that_takes_no_count_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"in the way")
    assert not live(tmp_path, dies=True)


def test_a_stage_that_is_killed_at_once_is_counted_whatever_boot_it_is(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys; from appliance.store.starts import counted\n"
        "os.environ['SYSTEMD_EXEC_PID'] = str(os.getpid())\n"
        "with counted(pathlib.Path(sys.argv[1]), 'work'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(FREE):
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL
    assert live(tmp_path, dies=True) == [pause_s(FREE)]
