"""What a process that died had in hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.host.boot import boot_id
from appliance.report import SeriesKey
from appliance.store.hand import NAME, Hand, InHand

KEY = SeriesKey("1.2.3", "1.2.3.4")


@pytest.mark.parametrize("lasting", [False, True])
def test_a_process_that_is_killed_leaves_its_series_in_hand(tmp_path: Path, lasting: bool) -> None:
    script = f"""
import os, signal
from pathlib import Path
from appliance.report import SeriesKey
from appliance.store.hand import Hand
key = SeriesKey("1.2.3", "1.2.3.4")
with Hand(Path({str(tmp_path)!r})).holding(key, "judge", lasting={lasting}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert Hand(tmp_path).last() == InHand(
        study="1.2.3", series="1.2.3.4", step="judge", boot=boot_id()
    )


def test_between_two_steps_and_after_an_exception_nothing_is_in_hand(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    assert hand.last() is None
    with hand.holding(KEY, "read"):
        assert Hand(tmp_path).last() is not None
    assert hand.last() is None
    with pytest.raises(RuntimeError), hand.holding(SeriesKey("1" * 64, "2" * 64), "judge"):
        raise RuntimeError
    assert hand.last() is None
    with hand.holding(KEY, "read"):
        found = hand.last()
    assert found is not None, "a shorter mark leaves nothing of the longer one"
    assert found.key == KEY


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"study": "1", "series": "2"}'])
def test_a_mark_that_cannot_be_read_blames_nobody(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).write_bytes(data)
    assert Hand(tmp_path).last() is None


def test_a_disk_that_takes_no_mark_does_not_stop_the_work(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).mkdir()
    with Hand(tmp_path).holding(KEY, "judge", lasting=True):
        pass
    os.rmdir(tmp_path / "run" / NAME)
    (tmp_path / "elsewhere").write_text("kept")
    os.symlink(tmp_path / "elsewhere", tmp_path / "run" / NAME)
    with Hand(tmp_path).holding(KEY, "judge"):
        pass
    assert (tmp_path / "elsewhere").read_text() == "kept", "no link is followed"
