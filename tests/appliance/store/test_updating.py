"""What is known of updates outside of `apply`, and the hint that `publish` lays down for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.store import updating
from appliance.store.files import Disk
from appliance.store.updating import FILE, HINT, Hint, Updating
from rigs.cuts import Counted

SAID = Updating(version="0.2.0", slot=2, release="stable/1.json", state="trial")


def settings(folder: Path) -> Settings:
    ours = {"root": folder / "root", "trusted": folder}
    return Settings.model_validate({"state": folder / "state", "update": ours})


def test_what_is_written_is_read_by_everybody_and_written_where_it_is_new(tmp_path: Path) -> None:
    disk = Counted()
    for _ in range(2):
        updating.write(disk, tmp_path, SAID)
    assert disk.did["put"] == 1
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644
    assert updating.read(settings(tmp_path)) == SAID
    assert SAID.on_trial
    assert not SAID.switches


def test_without_slots_or_with_a_damaged_file_nothing_is_said(tmp_path: Path) -> None:
    updating.write(Disk(), tmp_path, SAID)
    assert updating.read(Settings(state=tmp_path)) is None
    (tmp_path / FILE).write_text("{")
    assert updating.read(settings(tmp_path)) is None


def test_a_field_of_a_later_release_is_no_damage(tmp_path: Path) -> None:
    text = SAID.model_dump_json(by_alias=True)
    (tmp_path / FILE).write_text(text[:-1] + ', "later": 1}')
    assert updating.read(settings(tmp_path)) == SAID


def test_hints_add_up_until_they_are_taken_once(tmp_path: Path) -> None:
    updating.hint(Disk(), tmp_path, Hint(check=True))
    updating.hint(Disk(), tmp_path, Hint(hold=True))
    assert updating.taken(Disk(), tmp_path) == Hint(check=True, hold=True)
    assert updating.taken(Disk(), tmp_path) is None


@pytest.mark.parametrize("what", ["link", "text", "long"])
def test_a_hint_that_is_a_link_or_damaged_is_taken_away_and_is_none(
    tmp_path: Path, what: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('{"hold": true}')
    path = tmp_path / HINT
    if what == "link":
        path.symlink_to(elsewhere)
    else:
        path.write_text("{" if what == "text" else " " * 100_000 + '{"hold": true}')
    assert updating.taken(Disk(), tmp_path) is None
    assert not path.is_symlink()
    assert not path.exists()
    assert elsewhere.exists()
