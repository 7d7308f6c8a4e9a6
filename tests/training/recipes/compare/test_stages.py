"""The steps of lung-compare: what is judged was trained before, and not on what judges it."""

from __future__ import annotations

import itertools
from pathlib import Path

from training.read.shared_series import MASSES_ONLY, TRAINING_SERIES
from training.recipes.compare.folds import FOLDS
from training.recipes.compare.stages import stages


def options(command: list[str], name: str) -> list[str]:
    return [value for key, value in itertools.pairwise(command) if key == name]


def test_every_run_that_judges_is_trained_and_never_saw_its_ct(runs: Path) -> None:
    tracks, judges, last = stages("out")
    learned = {}
    for track in tracks.values():
        coarse, fine = track
        assert options(fine, "--start") == options(coarse, "--name")
        assert options(fine, "--hosts") == options(coarse, "--hosts")
        learned[options(fine, "--name")[0]] = options(fine, "--hosts")[0].split(",")
    (judge,) = judges["judge"]
    asked = [fold.split("=") for fold in options(judge, "--fold")]
    assert {host for host, _ in asked} == {name for hosts in FOLDS.values() for name in hosts}
    for host, run in asked:
        assert host not in learned[run]
        assert host not in MASSES_ONLY
    assert set(TRAINING_SERIES) <= set(learned["displace"])
    (export,) = last["export"]
    assert options(export, "--figures") == options(judge, "--out")
    assert options(export, "--out") == ["out"]
