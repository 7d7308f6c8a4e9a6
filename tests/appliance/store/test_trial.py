"""The flat files by which `guard` follows a stage on trial."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from appliance.host.boot import boot_id
from appliance.store import conditions, instance, trial
from appliance.store.heartbeat import BEAT_S, START, living


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a box whose slot 2 is on trial."""
    monkeypatch.setenv(trial.ON, "1")
    monkeypatch.setenv(instance.SLOT, "2")
    return tmp_path


def words(state: Path, stage: str = "work") -> list[str]:
    return (state / "trial" / f"{stage}.beat").read_text().split()


def test_each_beat_after_the_start_says_what_guard_needs(state: Path) -> None:
    for slot in (1, 2, 2, 12, 2):
        trial.note_start(state, "work", slot)
    with living(state, "work") as heart:
        beat = state / "trial" / "work.beat"
        assert not beat.exists(), "it does not serve yet"
        heart.beat()
        slot, up, allowed, starts, boot = words(state)
        assert (slot, allowed, starts, boot) == ("2", "20", "3", boot_id())
        now = float(Path("/proc/uptime").read_text().split()[0])
        assert abs(now - float(up)) < 60
        heart.beat("judge")
        assert words(state)[2] == "120"
    assert not beat.exists(), "it was asked to end: it does not hang"


def test_a_stage_that_ends_with_an_error_leaves_its_beat(state: Path) -> None:
    trial.note_start(state, "work", 2)
    with suppress(ZeroDivisionError), living(state, "work") as heart:
        heart.beat()
        raise ZeroDivisionError
    assert words(state)[3] == "1"


def test_a_loop_sleeps_shorter_until_the_trial_is_over(state: Path) -> None:
    trial.note_start(state, "work", 2)
    with living(state, "work") as heart:
        assert heart.sleep_s == trial.SLEEP_S < trial.ALLOWED_S[trial.WAITING] / 3
        (state / "trial" / "work.starts").unlink()
        (state / "trial").rmdir()
        assert heart.sleep_s == BEAT_S
        heart.beat()
        assert not (state / "trial").exists()


def test_without_a_trial_nothing_is_written(tmp_path: Path) -> None:
    trial.note_start(tmp_path, "work", 2)
    with living(tmp_path, "work") as heart:
        heart.beat()
        assert heart.sleep_s == BEAT_S
        assert [path.name for path in (tmp_path / "trial").iterdir()] == ["work.starts"]
    assert (tmp_path / "trial" / "work.starts").read_text() == "2\n"


def test_a_disk_that_takes_no_file_is_no_error(state: Path) -> None:
    (state / "trial").write_bytes(b"in the way")
    trial.note_start(state, "work", 2)
    with living(state, "work") as heart:
        heart.beat()


def test_each_step_has_its_time_and_no_trial_is_more_patient_than_the_watchdog() -> None:
    assert trial.ALLOWED_S.keys() == conditions.ALLOWED_S.keys() - {START}
    assert all(trial.ALLOWED_S[step] <= conditions.ALLOWED_S[step] for step in trial.ALLOWED_S)
    for step in (conditions.OPEN, conditions.DELETE):
        assert trial.allowed_s("work", step) == conditions.ALLOWED_S[step]
    assert trial.allowed_s("publish", "") > trial.allowed_s("receive", "")
