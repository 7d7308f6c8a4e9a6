"""What a stage says of itself."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.store import heartbeat
from appliance.store.heartbeat import REMEDIES, START, Heart, TroubleCode, living, read


def test_a_beat_says_the_step_and_what_waits(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "work")
    heart.beat("judge", oldest=12.5)
    beat = read(tmp_path, "work")
    assert beat is not None
    assert (beat.stage, beat.step, beat.oldest, beat.troubles) == ("work", "judge", 12.5, ())
    assert beat.since <= beat.tick


def test_a_step_that_goes_on_keeps_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LEAST_S", 0.0)
    heart = Heart(tmp_path, "work")
    heart.beat("judge")
    first = read(tmp_path, "work")
    heart.beat("judge")
    second = read(tmp_path, "work")
    heart.beat("read")
    third = read(tmp_path, "work")
    assert first is not None
    assert second is not None
    assert third is not None
    assert second.since == first.since
    assert third.since >= second.tick


def step(state: Path) -> str | None:
    """Of the beat that was written last."""
    beat = read(state, "work")
    return None if beat is None else beat.step


def test_a_step_within_another_ends_where_it_was(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "work")
    heart.beat(oldest=7.0)
    with suppress(ZeroDivisionError), heart.at("judge"):
        assert step(tmp_path) == "judge"
        raise ZeroDivisionError
    beat = read(tmp_path, "work")
    assert beat is not None
    assert (beat.step, beat.oldest) == ("", 7.0)


def test_a_start_stays_one_whatever_is_done_in_it(tmp_path: Path) -> None:
    with living(tmp_path, "work") as heart:
        with heart.at("open"):
            assert step(tmp_path) == START
        heart.go_on()
        assert step(tmp_path) == START
        heart.beat()
        assert step(tmp_path) == ""


def test_a_second_process_of_a_stage_is_refused_and_leaves_the_beat_of_the_first(
    tmp_path: Path,
) -> None:
    with living(tmp_path, "work") as heart:
        heart.beat("judge")
        with pytest.raises(StateUnusable, match="another"), living(tmp_path, "work"):
            pass
        assert step(tmp_path) == "judge"


def test_each_progress_feeds_the_watchdog_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2")
        heart = Heart(tmp_path, "work")
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        heart.beat()
        heart.go_on()  # the same beat, which is not written again
        assert [systemd.recv(100), systemd.recv(100)] == [b"WATCHDOG=1"] * 2
        monkeypatch.setattr(heartbeat, "LEAST_S", math.inf)
        monkeypatch.setenv("WATCHDOG_USEC", str(3600 * 10**6))
        heart.beat("judge")  # it was fed less than half an hour ago
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_what_does_not_change_is_not_written_again_at_once(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "work")
    heart.beat()
    before = (tmp_path / "run" / "work.beat").stat().st_ino
    heart.beat()
    assert (tmp_path / "run" / "work.beat").stat().st_ino == before


def test_a_trouble_is_said_at_the_next_beat_until_it_ends(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "work")
    heart.beat()
    heart.suffer(TroubleCode.BUNDLE_REFUSED, "lung-nodule 1.2.0: its digest differs")
    heart.beat()
    ill = read(tmp_path, "work")
    heart.recover(TroubleCode.BUNDLE_REFUSED)
    heart.recover(TroubleCode.CLOCK_WRONG)
    heart.beat()
    well = read(tmp_path, "work")
    assert ill is not None
    assert [trouble.code for trouble in ill.troubles] == [TroubleCode.BUNDLE_REFUSED]
    assert "bundle add" in ill.troubles[0].remedy
    assert well is not None
    assert well.troubles == ()


def test_a_beat_of_another_boot_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Heart(tmp_path, "work").beat()
    monkeypatch.setattr(heartbeat, "boot_id", lambda: "another")
    assert read(tmp_path, "work") is None


@pytest.mark.parametrize("data", [b"", b"{", b'{"stage": "work"}'])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "work.beat").write_bytes(data)
    assert read(tmp_path, "work") is None


def test_a_disk_that_takes_no_beat_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"in the way")
    Heart(tmp_path, "work").beat()
    assert read(tmp_path, "work") is None


def test_a_disk_that_takes_no_more_beats_keeps_no_old_one(tmp_path: Path) -> None:
    heart = Heart(tmp_path, "work")
    heart.beat()
    (tmp_path / "run" / ".work.beat.tmp").mkdir()  # what is to be written cannot be
    heart.beat("judge")
    assert read(tmp_path, "work") is None


def test_each_trouble_has_its_remedy() -> None:
    assert set(REMEDIES) == set(TroubleCode)
