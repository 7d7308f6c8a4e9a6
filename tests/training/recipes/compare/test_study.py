"""Rows of lessons: they differ in their losses alone, and no run judges what it learned from."""

from __future__ import annotations

from dataclasses import asdict

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.learn.knobs import override
from training.recipes.compare import displace, study
from training.recipes.compare.folds import FOLDS

LOSSES = {"name", "field", "ncc", "mi", "masks", "lungs"}


def test_rows_differ_in_nothing_but_their_losses() -> None:
    def knobs(lesson: str) -> dict[str, object]:
        return asdict(override(displace.Knobs(), study.trained(lesson, "2")[1:]))

    first = knobs("supervised")
    losses = set()
    for lesson in study.LESSONS:
        other = knobs(lesson)
        assert {name for name in first if first[name] != other[name]} <= LOSSES
        losses.add(tuple(other[name] for name in sorted(LOSSES - {"name"})))
    names = {study.run_of(lesson, fold) for lesson in study.LESSONS for fold in FOLDS}
    assert len(losses) == len(study.LESSONS)
    assert len(names) == len(study.LESSONS) * len(FOLDS)
