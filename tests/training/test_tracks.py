"""Stages one after the other, their tracks side by side, and what a failing step ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.tracks import Failed, run_stages


def test_tracks_run_side_by_side_and_their_commands_one_after_the_other(
    steps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # each of the first two ends only when the other has begun
    left, right = [["step", "a", "b"], ["step", "c", ""]], [["step", "b", "a"]]
    run_stages([{"left": left, "right": right}, {"last": [["step", "d", "c"]]}], jobs=2)
    order = (steps / "order").read_text().split()
    assert order.index("a") < order.index("c")
    assert order[-1] == "d"
    assert "left: step: " in capsys.readouterr().out


def test_the_first_command_that_fails_ends_the_run_and_what_runs_beside_it(steps: Path) -> None:
    # "slow" waits for a file that nobody makes: only being ended makes it end in time
    stages = [
        {
            "bad": [["step", "broken", "slow"], ["step", "after", ""]],
            "slow": [["step", "slow", "x"]],
        },
        {"next": [["step", "next", ""]]},
    ]
    with pytest.raises(Failed, match="bad: step ended with 1"):
        run_stages(stages, jobs=2)
    assert sorted((steps / "order").read_text().split()) == ["broken", "slow"]
