"""Whoever broke into `update` does not fill the disk that `receive` needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.apply import sweeping
from appliance.apply.sweeping import emptied, measured, sweep
from rigs.applied import Applied
from rigs.releasing import Simulated


@pytest.fixture
def box(tmp_path: Path) -> Applied:
    repo = Simulated.begun()
    repo.ship()
    made = Applied(tmp_path / "box", repo, update={"limit_mb": 1.0})
    made.places.downloads.mkdir()
    return made


def test_a_release_that_was_fetched_stays(box: Applied) -> None:
    course = box.course()
    box.turns(course)
    box.fetch()
    before = measured(box.places.downloads)
    assert 0 < before[0] < 1
    assert not sweep(box.box())
    assert measured(box.places.downloads) == before


def test_before_update_ran_there_is_nothing_to_look_at(box: Applied) -> None:
    box.places.downloads.rmdir()
    assert not sweep(box.box())


def test_more_than_may_be_goes_with_the_process_that_wrote_it(box: Applied) -> None:
    (box.places.downloads / "blobs").mkdir()
    (box.places.downloads / "blobs" / "fill").write_bytes(b"x" * 2_000_000)
    (box.places.downloads / "offered").write_bytes(b"{}")
    assert sweep(box.box())
    assert list(box.places.downloads.iterdir()) == []
    assert ("restart", "update", 1) in box.units.told
    ((action, detail),) = box.audit
    assert (action, detail["mb"], detail["limit_mb"]) == ("downloads swept", "2", "1")
    assert not sweep(box.box())


@pytest.mark.parametrize("kind", ["many", "deep", "wide"])
def test_no_shape_of_folders_hides_anything(
    box: Applied, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MOST_FILES", 3000)
    top = os.open(box.places.downloads, os.O_RDONLY)
    if kind == "many":
        for number in range(3001):
            os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, dir_fd=top))
    elif kind == "wide":
        for number in range(1500):
            os.mkdir(f"{number}", dir_fd=top)
    else:
        for _ in range(1200):  # deeper than a path can say, and than Python calls itself
            os.mkdir("a" * 100, dir_fd=top)
            inner = os.open("a" * 100, os.O_RDONLY, dir_fd=top)
            os.close(top)
            top = inner
        os.close(os.open("fill", os.O_CREAT | os.O_WRONLY, dir_fd=top))
    os.close(top)
    assert sweep(box.box())
    assert list(box.places.downloads.iterdir()) == []


def test_a_link_is_removed_and_what_it_leads_to_is_not(box: Applied, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").write_bytes(b"x" * 2_000_000)
    inner = box.places.downloads / "inner"
    inner.mkdir()
    (box.places.downloads / "link").symlink_to(other)
    (inner / "link").symlink_to(other)
    assert measured(box.places.downloads)[0] < 1, "nor is it measured"
    emptied(box.places.downloads)
    assert list(box.places.downloads.iterdir()) == []
    assert (other / "kept").exists()


def test_a_folder_that_is_a_link_itself_is_not_looked_at(box: Applied, tmp_path: Path) -> None:
    box.places.downloads.rmdir()
    (tmp_path / "other").mkdir()
    box.places.downloads.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        sweep(box.box())
