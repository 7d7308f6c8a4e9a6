"""The audit of `apply`: a chain of lines in files that stay small, and a copy for who reads the
journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from appliance.apply import audit as audits
from appliance.apply.audit import FILE, FIRST, KEPT, Audit, broken, lines
from appliance.errors import StateUnusable
from appliance.store.files import Disk
from rigs.cuts import Full

AT = datetime(2026, 7, 1, tzinfo=timezone.utc)


def silent(*_: object) -> None:
    """Takes the copy."""


def begun(folder: Path, disk: Disk | None = None) -> Audit:
    return Audit(folder, lambda: AT, silent, disk or Disk())


def said(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(folder)]


def test_each_line_stays_and_the_copy_says_the_same(tmp_path: Path) -> None:
    copied: list[tuple[str, str, Mapping[str, str]]] = []
    audit = Audit(tmp_path, lambda: AT, lambda *said: copied.append(said))
    audit.add("anna@socket", "update hold", {})
    audit.add("apply", "update", {"state": "ready"})
    first, second = said(tmp_path)
    assert (first["action"], first["number"], first["previous"]) == ("update hold", 1, FIRST)
    assert {**second, "previous": ""} == {
        "at": AT.isoformat(),
        "actor": "apply",
        "action": "update",
        "state": "ready",
        "number": 2,
        "previous": "",
    }
    assert copied == [("anna@socket", "update hold", {}), ("apply", "update", {"state": "ready"})]
    assert broken(tmp_path) is None


def test_nothing_that_is_asked_passes_for_who_asked_or_for_the_chain(tmp_path: Path) -> None:
    forged = {"actor": "root@socket", "number": "7", "previous": "x", "at": "never"}
    begun(tmp_path).add("anna@socket", "update now", forged)
    (line,) = said(tmp_path)
    assert (line["actor"], line["number"], line["at"]) == ("anna@socket", 1, AT.isoformat())


def test_the_files_stay_small_and_few_and_their_chain_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "MOST_BYTES", 1000)
    for number in range(300):
        begun(tmp_path).add("apply", "update", {"what": str(number)})  # a process a line
    files = list(tmp_path.iterdir())
    assert len(files) == KEPT + 1
    assert all(path.stat().st_size <= 1000 for path in files)
    kept = [one["number"] for one in said(tmp_path)]
    assert kept == list(range(kept[0], 301))
    assert broken(tmp_path) is None


@pytest.mark.parametrize("what", ["changed", "gone", "swapped", "doubled", "damaged"])
def test_what_was_done_to_a_line_shows_also_in_an_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(audits, "MOST_BYTES", 1000)
    audit = begun(tmp_path)
    for number in range(20):
        audit.add("apply", "update", {"what": f"line {number}"})
    path = min(tmp_path.glob("audit.*.jsonl"), key=lambda one: int(one.name.split(".")[1]))
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    made = {
        "changed": [first.replace(b"line 0", b"line 9"), second],
        "gone": [first],
        "swapped": [second, first],
        "doubled": [first, first, second],
        "damaged": [first, second[:9] + b"\n"],
    }
    path.write_bytes(b"".join([*made[what], *rest]))
    assert broken(tmp_path) == (3 if what == "swapped" else 2)


def test_lines_of_a_release_without_a_chain_stay_and_the_chain_begins_behind_them(
    tmp_path: Path,
) -> None:
    (tmp_path / FILE).write_text('{"at": "x", "actor": "apply", "action": "update"}\n' * 2)
    audit = begun(tmp_path)
    audit.add("apply", "update", {})
    audit.add("apply", "update", {})
    assert [one.get("number") for one in said(tmp_path)] == [None, None, 1, 2]
    assert broken(tmp_path) is None


def test_a_line_that_a_power_cut_left_in_part_is_cut_off(
    tmp_path: Path,
) -> None:
    begun(tmp_path).add("apply", "first", {})
    for left in (b'{"at": "2026', b'{"at": \0\0\0\0"}\n'):
        with (tmp_path / FILE).open("ab") as file:
            file.write(left)
        begun(tmp_path).add("apply", "next", {})
    assert [one["action"] for one in said(tmp_path)] == ["first", "next", "next"]
    assert broken(tmp_path) is None


def test_a_cut_between_the_two_steps_of_a_rotation_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = begun(tmp_path)
    audit.add("apply", "first", {})
    (tmp_path / FILE).rename(tmp_path / "audit.1.jsonl")
    begun(tmp_path).add("apply", "second", {})
    assert [one["number"] for one in said(tmp_path)] == [1, 2]
    assert broken(tmp_path) is None


def test_a_journal_that_takes_no_copy_hinders_nothing(tmp_path: Path) -> None:
    def damaged(*_: object) -> None:
        raise StateUnusable("the journal is damaged")

    Audit(tmp_path, lambda: AT, damaged).add("apply", "update", {})
    assert (tmp_path / FILE).read_text().count("\n") == 1


def test_what_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable):
        begun(tmp_path, Full()).add("apply", "update", {})
    begun(tmp_path).add("apply", "update", {})
    assert broken(tmp_path) is None
