"""The study of lessons: rows that differ in their loss alone, and no run made twice."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from training.implant.pairs.pair import Chest
from training.recipes.compare import displace, study
from training.recipes.compare.folds import FOLDS

LOSSES = {"name", "field", "ncc", "mi", "masks", "lungs"}


def test_rows_differ_in_nothing_but_their_losses() -> None:
    first = asdict(study.knobs_of("supervised", "2", 10))
    names = set()
    for row in study.ROWS:
        other = asdict(study.knobs_of(row, "2", 10))
        assert {name for name in first if first[name] != other[name]} <= LOSSES
        names |= {study.run_of(row, fold) for fold in FOLDS}
    assert len(names) == len(study.ROWS) * len(FOLDS)


def test_a_run_that_is_done_is_not_made_again_and_a_longer_one_goes_on(
    host: Chest, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr(displace, "chest", lambda _: host)
    monkeypatch.setattr(displace, "train", lambda k, files, folder: trained.append(k.steps))
    monkeypatch.setattr(study.lessons, "pool", lambda *_: [])
    for steps in (2, 2, 3):
        assert study.learned("MI", "4", steps) == "study-mi-fold-4"
    assert trained == [2, 3]


def test_the_table_has_a_line_a_row() -> None:
    row = {"mean_mm": 2.0, "p95_mm": 5.5, "n": 40}
    text = study.as_table({"boxes": row, "supervised": row})
    assert text.splitlines()[-1] == "| supervised | 2.00 | 5.50 | 40 |"
