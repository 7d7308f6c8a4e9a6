"""Durable writes, with the power cut before every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.errors import StateUnusable
from appliance.store.files import DISK, TEMP_SUFFIX, Disk
from rigs.cuts import Cut, PowerCut

STEPS = range(12)
WHOLE = b"whole" * 1000


@pytest.mark.parametrize("names_lost", [True, False])
@pytest.mark.parametrize("at", STEPS)
def test_a_written_file_is_old_or_new_at_any_power_cut(
    tmp_path: Path, cut_disk: Any, power_cut: Any, at: int, names_lost: bool
) -> None:
    path = tmp_path / "file"
    DISK.write(path, b"old")
    disk = cut_disk(tmp_path, at, names_lost=names_lost)
    try:
        disk.write(path, WHOLE)
        returned = True
        disk._left = 0
        with pytest.raises(power_cut):
            disk.sync_file(path)
    except power_cut:
        returned = False
    assert path.read_bytes() in ((WHOLE,) if returned else (b"old", WHOLE))


@pytest.mark.parametrize("names_lost", [True, False])
@pytest.mark.parametrize("at", STEPS)
def test_an_adopted_file_is_whole_or_not_there_at_any_power_cut(
    tmp_path: Path, cut_disk: Any, power_cut: Any, at: int, names_lost: bool
) -> None:
    incoming, final = tmp_path / "incoming", tmp_path / "final" / "deep"
    DISK.make_folder(incoming)
    disk = cut_disk(tmp_path, at, names_lost=names_lost)
    temp, path = incoming / "temp", final / "file"
    temp.write_bytes(WHOLE)
    try:
        disk.make_folder(final)
        disk.adopt(temp, path)
        returned = True
        disk._left = 0
        with pytest.raises(power_cut):
            disk.sync_file(path)
    except power_cut:
        returned = False
    if returned or path.exists():
        assert path.read_bytes() == WHOLE


@pytest.mark.parametrize("at", range(3))
def test_a_link_is_never_missing_and_leads_to_the_old_or_the_new_at_any_power_cut(
    tmp_path: Path, at: int
) -> None:
    link = tmp_path / "current"
    DISK.point(link, "slots/1")
    with pytest.raises(PowerCut):
        Cut(at).point(link, "slots/2")
    assert str(link.readlink()) in ("slots/1", "slots/2")
    DISK.point(link, "slots/2")
    assert str(link.readlink()) == "slots/2"


def test_a_link_never_takes_the_place_of_a_folder_and_leaves_no_temporary_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "current").mkdir()
    with pytest.raises(StateUnusable):
        DISK.point(tmp_path / "current", "slots/1")
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_adopting_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    DISK.adopt(tmp_path / "a", tmp_path / "final")
    with pytest.raises(FileExistsError):
        DISK.adopt(tmp_path / "b", tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"first"
    assert (tmp_path / "b").read_bytes() == b"second"


def test_a_broken_disk_is_state_unusable_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StateUnusable):
        DISK.write(tmp_path / "folder", b"a file cannot replace a folder")
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(TEMP_SUFFIX)]


def test_removing_what_is_not_there_is_fine_and_free_space_is_in_megabytes(tmp_path: Path) -> None:
    DISK.remove(tmp_path / "nothing")
    assert 1 < DISK.free_mb(tmp_path) < 1e9


def test_a_folder_that_may_not_be_looked_at_is_state_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", denied)  # as Python before 3.14 does
    with pytest.raises(StateUnusable, match="Permission denied"):
        DISK.make_folder(tmp_path / "state" / "run")


def test_what_is_appended_lies_behind_what_was_there_and_can_be_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert DISK.append(path, b"two") == 3
    assert path.read_bytes() == b"onetwo"
    DISK.cut(path, 3)
    assert path.read_bytes() == b"one"
    with pytest.raises(FileNotFoundError):
        DISK.append(tmp_path / "not there", b"two")


@pytest.mark.parametrize("step", ["put_at", "sync_file"])
def test_what_could_not_be_appended_leaves_the_file_as_it_was(tmp_path: Path, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path, disk = tmp_path / "file", Disk()
    path.write_bytes(b"one")
    setattr(disk, step, fail)
    with pytest.raises(StateUnusable, match="No space left"):
        disk.append(path, b"two")
    assert path.read_bytes() == b"one"
