"""The steps of lung-nodule: what is judged was trained before, and not on what judges it."""

from __future__ import annotations

import itertools

from training.read.shared_series import TRAINING_SERIES
from training.recipes.lung_nodule.stages import STEPS, stages


def options(command: list[str], name: str) -> list[str]:
    return [value for key, value in itertools.pairwise(command) if key == name]


def test_every_run_that_judges_is_trained_and_quantised_and_never_saw_its_ct() -> None:
    tracks, (judges,) = stages("out")[0], stages("out")[1].values()
    learned = {}
    for name, (*trained, quantize) in tracks.items():
        for train in trained:
            if hosts := options(train, "--hosts"):
                assert options(trained[-1], "--name") == options(quantize, "--name") == [name]
                learned[options(train, "--name")[0]] = hosts[0].split(",")
                for mask in options(train, "--lungs"):
                    assert learned[mask] == learned[name]
    asked = 0
    for command in judges:
        for fold in options(command, "--fold"):
            host, run = fold.split("=")
            assert host in TRAINING_SERIES
            assert host not in learned[run]
            asked += 1
    assert asked == 7 + 8 + 4 + 3
    assert [c[0] for c in judges][-1] == f"{STEPS}.export"
    made = next(command[1] for command in judges if command[0] == "training.ship.shapes")
    assert options(judges[-1], "--shapes") == [made], "what ships is probed"
