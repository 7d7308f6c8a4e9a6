"""docs/faults.md: each fault has its kind, and a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """The cells of the table, without its head."""
    lines = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_every_fault_has_its_kind_and_a_test_that_is_there(row: list[str]) -> None:
    fault, kind, tests = row
    assert fault
    assert kind
    named = TEST.findall(tests)
    assert named
    for path, name in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.M), f"{path} has no {name}"


def test_no_fault_has_two_rows_that_say_the_same() -> None:
    said = [(row[0], row[2]) for row in rows()]
    assert len(said) == len(set(said))
