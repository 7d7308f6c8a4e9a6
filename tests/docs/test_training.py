"""docs/training.md: what it says of the knobs that may change is what the loops hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.learn import loop
from training.recipes.lung_nodule import propose

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def row(begin: str) -> list[str]:
    """The cells of the table of loops whose first one is this."""
    (line,) = (one for one in TEXT.splitlines() if one.startswith(f"| {begin} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_knobs_that_a_resumed_run_may_change_are_those_of_the_loops() -> None:
    ours, of_propose, of_segment = row("`last.pt` of other knobs")
    assert set(re.findall(r"\w+", ours.partition("but for")[2])) == loop.MAY_CHANGE
    named = of_propose.removeprefix("refused where ").partition(" differ")[0]
    assert set(re.split(r", | or ", named)) == set(propose.SAME)
    assert of_segment == "taken in silence"


def test_so_many_steps_without_a_number_end_a_run_as_the_loop_has_it() -> None:
    ours, *_ = row("a loss that is no number")
    assert f"; {loop.MOST_SKIPPED} in a row" in ours
    log, *_ = row("`log.csv`")
    assert f"each {loop.LOG_EVERY} steps" in log


def test_every_recipe_that_it_names_is_there() -> None:
    (head,) = (one for one in TEXT.splitlines() if one.startswith("| | `training/learn/loop.py`"))
    recipes = re.findall(r"`(\w+)`", head)
    assert len(recipes) > 5
    for name in recipes:
        path = ROOT / "training" / "recipes" / "lung_nodule" / f"{name}.py"
        own_loop = name in {"propose", "segment"}
        assert ("from training.learn.loop import" in path.read_text()) is not own_loop, name
