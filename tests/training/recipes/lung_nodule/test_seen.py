"""No network is judged on what it learned from, whatever the command says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.errors import RunError
from training.learn.checkpoint import save_checkpoint
from training.recipes.lung_nodule import (
    calibrate,
    calibrate_masses,
    judge_disease,
    judge_measure,
    seen,
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run that learned from two CTs."""
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    save_checkpoint(tmp_path / "run/last.pt", {"knobs": {"hosts": "A0001,R01-001"}})
    return "run"


def test_a_run_is_judged_on_what_it_left_out_alone(run: str) -> None:
    seen.refuse_seen("C3N-00247", run)
    with pytest.raises(RunError, match="run learned from A0001: it cannot be judged on it"):
        seen.refuse_seen("A0001", run)


def test_a_run_that_does_not_say_what_it_learned_from_is_refused(run: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / run / "last.pt", {"knobs": {}})
    with pytest.raises(RunError, match="does not say which CTs it learned from"):
        seen.refuse_seen("A0001", run)


@pytest.mark.parametrize("judge", [calibrate, calibrate_masses, judge_disease, judge_measure])
def test_every_judge_asks_before_it_begins(
    judge: object, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = ["--fold", f"R01-001={run}", "--fold", f"A0001={run}"]
    monkeypatch.setattr(sys, "argv", ["judge", *folds])
    with pytest.raises(RunError, match="run learned from R01-001"):
        judge.main()  # type: ignore[attr-defined]
