"""The doctor's check of the stages."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.stages import of
from appliance.store import conditions
from appliance.store.heartbeat import TroubleCode, living
from appliance.verbs.checks import stages
from appliance.verbs.checks.check import Check, Device


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of systemd without any unit."""
    folder = tmp_path / "systemd"
    folder.mkdir()
    monkeypatch.setattr(stages, "UNITS", (folder,))
    return folder


def checked(state: Path) -> Check:
    return stages.stages(Device(Settings(state=state), "scanside.toml"))


def test_a_machine_where_nothing_was_started_yet_is_no_failure(tmp_path: Path, units: Path) -> None:
    check = checked(tmp_path)
    assert check.ok
    assert "no stage has been started" in check.text
    assert list(tmp_path.iterdir()) == [units]


def test_under_systemd_a_machine_where_nothing_ever_ran_is_a_failure(
    tmp_path: Path, units: Path
) -> None:
    (units / "scanside-work@.service").touch()
    check = checked(tmp_path)
    assert not check.ok
    assert "systemctl enable --now" in check.remedy


@pytest.mark.parametrize("by_systemd", [False, True])
def test_each_stage_is_named_and_what_has_ended_is_a_failure(
    tmp_path: Path, units: Path, monkeypatch: pytest.MonkeyPatch, by_systemd: bool
) -> None:
    if by_systemd:
        (units / "scanside-work@.service").touch()
    with ExitStack() as running:
        for row in of(Settings()):
            running.enter_context(living(tmp_path, row.name)).beat()
        check = checked(tmp_path)
        assert check.ok
        assert [line.split(":")[0] for line in check.text.splitlines()] == [
            f"{row.name} running" for row in of(Settings())
        ]
    check = checked(tmp_path)
    assert not check.ok
    assert "work down: does not run" in check.text
    named = "journalctl -u 'scanside-work@*'" if by_systemd else "`scanside work`"
    assert named in check.remedy


def test_what_is_stuck_is_a_failure(
    tmp_path: Path, units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "ALLOWED_S", dict.fromkeys(conditions.ALLOWED_S, -1.0))
    with living(tmp_path, "work") as heart:
        heart.beat("judge")
        (units / "scanside-work@.service").touch()
        check = checked(tmp_path)
    assert not check.ok
    assert "work stuck: no progress" in check.text
    assert "systemctl restart 'scanside-work@*'" in check.remedy


def test_what_starts_is_no_failure(tmp_path: Path, units: Path) -> None:
    with living(tmp_path, "publish"):
        check = checked(tmp_path)
    assert check.ok
    assert "publish starting" in check.text
    assert "work starting: has not begun yet" in check.text


def test_a_trouble_is_a_failure_with_its_remedy(tmp_path: Path, units: Path) -> None:
    with living(tmp_path, "receive") as heart:
        heart.suffer(TroubleCode.ASSOCIATIONS_FULL, "a sender at 10.0.0.5 was refused")
        heart.beat()
        check = checked(tmp_path)
    assert not check.ok
    assert "associations_full: a sender at 10.0.0.5 was refused" in check.text
    assert "[dicom] max_associations" in check.remedy
