"""docs/reliability.md: every test that it names is there and runs where the table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from faults.test_kill_points import POINTS

ROOT = Path(__file__).resolve().parents[2]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
RUNS = ("make test", "make test-long")


def rows() -> list[list[str]]:
    """The cells of the table whose first column is `fault`, without its head."""
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    heads = [n for n, row in enumerate(cells) if row == ["fault", "promise", "test", "where"]]
    assert heads == [0], "the first table"
    ends = [n for n, row in enumerate(cells) if len(row) != len(cells[0])]
    return cells[2 : ends[0] if ends else None]


def is_long(path: str, name: str) -> bool:
    """Whether the test is marked long; fails where there is no such test."""
    source = (ROOT / path).read_text(encoding="utf-8")
    found = re.search(rf"^((?:@.*\n|[ )\]].*\n)*)def {name}\(", source, re.MULTILINE)
    assert found is not None, f"{path} has no {name}"
    return "@pytest.mark.long" in found[1]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_every_test_of_the_table_is_there_and_runs_where_it_says(row: list[str]) -> None:
    fault, promise, tests, where = row
    assert fault
    assert promise
    assert where in RUNS
    named = TEST.findall(tests)
    assert named
    assert TEST.sub("", tests).replace("<br>", "").strip() == "", "names only"
    for path, name in named:
        assert is_long(path, name) == (where == "make test-long"), name


def test_a_count_that_somebody_measured_stands_in_one_line_alone() -> None:
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        for number in set(re.findall(r"(?<![\d,])\d{1,3},\d{3}(?![\d,])", line)):
            if int(number.replace(",", "")) % 500:  # round ones are what a test is asked for
                found.setdefault(number, []).append(line[:60])
    assert found
    assert {number: where for number, where in found.items() if len(where) > 1} == {}


def test_the_named_points_of_a_kill_are_counted_as_the_test_has_them() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    said = ", ".join(f"{stage} {len(points)}" for stage, points in POINTS.items())
    assert f"| kill -9 at every named point: {said} |" in text
    total = sum(map(len, POINTS.values()))
    assert f"| kill -9 at named points: {said} | {total} |" in text


def test_no_test_is_named_twice() -> None:
    named = [test for row in rows() for test in TEST.findall(row[2])]
    assert len(named) == len(set(named))
