"""The audit of `apply`: a line for ever, and a copy for who reads the journal."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.apply.audit import FILE, Audit
from appliance.errors import StateUnusable
from appliance.store.files import Disk

AT = datetime(2026, 7, 1, tzinfo=timezone.utc)


def test_each_line_stays_and_the_copy_says_the_same(tmp_path: Path) -> None:
    copied = []
    audit = Audit(tmp_path, lambda: AT, lambda *said: copied.append(said))
    audit.add("anna@socket", "update hold", {})
    audit.add("apply", "update", {"state": "ready"})
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [one["action"] for one in lines] == ["update hold", "update"]
    assert lines[1] == {
        "at": AT.isoformat(),
        "actor": "apply",
        "action": "update",
        "state": "ready",
    }
    assert copied == [("anna@socket", "update hold", {}), ("apply", "update", {"state": "ready"})]


def test_a_journal_that_takes_no_copy_hinders_nothing(tmp_path: Path) -> None:
    def damaged(*_: object) -> None:
        raise StateUnusable("the journal is damaged")

    Audit(tmp_path, lambda: AT, damaged).add("apply", "update", {})
    assert (tmp_path / FILE).read_text().count("\n") == 1


class Full(Disk):
    def put_at(self, path: Path, offset: int, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))


def test_what_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable):
        Audit(tmp_path, lambda: AT, lambda *_: None, Full()).add("apply", "update", {})
