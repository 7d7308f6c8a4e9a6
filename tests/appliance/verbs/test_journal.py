"""`scanside journal confirm`."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ScansideError
from appliance.settings import Settings
from appliance.store.journal import JOURNAL_NAME, Journal, Manner, damage
from appliance.verbs.journal import confirm


def test_a_person_confirms_and_it_is_audited_and_what_was_set_aside_stays(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    (tmp_path / JOURNAL_NAME).write_bytes(b"no journal")
    Journal.open(tmp_path, manner=Manner.MEND).close()
    told = damage.read(tmp_path)
    assert told is not None
    assert told.file is not None
    assert told.file in confirm(Settings(state=tmp_path))
    assert damage.read(tmp_path) is None
    assert (tmp_path / told.file).read_bytes() == b"no journal"
    with Journal.open(tmp_path) as journal:
        (row, _) = journal.audit.rows()
        assert row.action == "journal_damage_confirmed"
        assert row.detail["file"] == told.file
        assert journal.audit.verify() is None


@pytest.mark.parametrize("under_way", [False, True])
def test_what_cannot_be_confirmed_says_why(tmp_path: Path, under_way: bool) -> None:
    Journal.open(tmp_path).close()
    if under_way:
        (tmp_path / damage.DAMAGE_NAME).write_text(
            damage.Damage(at=1.0, why="x", file=None).model_dump_json()
        )
    with pytest.raises(ScansideError) as refused:
        confirm(Settings(state=tmp_path))
    assert refused.value.code == ("journal_waits" if under_way else "not_damaged")
    assert refused.value.remedy
