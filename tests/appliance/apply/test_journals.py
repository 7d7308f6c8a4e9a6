"""`apply` opens no journal that leads out of the stages' folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.apply import interlock, journals
from appliance.apply.stage import _copier
from appliance.errors import StateUnusable
from appliance.store.journal import JOURNAL_NAME, Journal


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    Journal.open(folder).close()
    return folder


def test_the_journal_is_read_and_written_as_ever(state: Path) -> None:
    _copier(state)("apply", "update", {"state": "ready"})
    with journals.reading(state) as journal:
        assert journal is not None
        assert journal.audit.rows(1)[0].action == "update"
    assert interlock.look(state).known


def test_where_there_is_none_nothing_is_made(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with journals.reading(folder) as journal:
            assert journal is None
        _copier(folder)("apply", "update", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [JOURNAL_NAME, f"{JOURNAL_NAME}-wal", f"{JOURNAL_NAME}.users"])
@pytest.mark.parametrize("how", ["link", "second name", "pipe"])
def test_a_file_that_is_somebody_elses_is_neither_read_nor_written(
    state: Path, tmp_path: Path, name: str, how: str
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"what root alone may write")
    (state / name).unlink(missing_ok=True)
    if how == "link":
        (state / name).symlink_to(other)
    elif how == "second name":
        os.link(other, state / name)
    else:
        os.mkfifo(state / name)
    for use in (journals.reading, journals.writing):
        with pytest.raises(StateUnusable) as refused, use(state):
            pass
        assert refused.value.code == "symbolic_link"
    assert not interlock.look(state).known, "so the box is not idle"
    assert other.read_bytes() == b"what root alone may write"


def test_a_folder_that_is_a_link_is_not_followed(state: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(state)
    with pytest.raises(StateUnusable), journals.reading(tmp_path / "link"):
        pass
