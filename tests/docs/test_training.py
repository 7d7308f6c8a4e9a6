"""docs/training.md: what it says of the loop is what the loop holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.learn import checkpoint, loop

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
(LOOP,) = (one for one in TEXT.split("\n\n") if one.startswith("Every recipe learns in one loop"))


def test_the_knobs_that_a_resumed_run_may_change_are_those_of_the_loop() -> None:
    (named,) = re.findall(r"other knobs \(but for ([^)]+)\)", LOOP.replace("\n", " "))
    assert set(re.findall(r"\w+", named)) == checkpoint.MAY_CHANGE


def test_so_many_steps_without_a_number_end_a_run_as_the_loop_has_it() -> None:
    assert f"{loop.MOST_SKIPPED} such steps in a row" in LOOP.replace("\n", " ")
    assert f"a row each {loop.LOG_EVERY} steps" in LOOP.replace("\n", " ")
