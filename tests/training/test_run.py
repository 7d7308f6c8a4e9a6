"""The chain of a task names recipes that exist and knobs that they have."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.loop import override
from training.run import FOLDS, TASKS, Failed, main, run_stages


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_step_is_a_recipe_with_those_knobs(
    task: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    stages = TASKS[task](f"build/{task}")
    tracks = [track for stage in stages for track in stage.values()]
    for module, *words in [command for track in tracks for command in track]:
        recipe = importlib.import_module(module)
        own = getattr(getattr(recipe, "Knobs", None), "__module__", "")
        if own == module:  # a judging command may have those of the recipe that it judges
            override(recipe.Knobs(), words)
        assert callable(recipe.main)


def test_no_fold_trains_on_the_scan_it_leaves_out() -> None:
    for left_out, hosts in FOLDS.items():
        assert left_out not in hosts.split(",")


STEP = """
import pathlib, sys, time
name, want = sys.argv[1:]
here = pathlib.Path()
with open("order", "a") as file:
    file.write(name + "\\n")
(here / name).touch()
end = time.monotonic() + 60
while want and not (here / want).exists():
    if time.monotonic() > end:
        sys.exit(3)
    time.sleep(0.01)
sys.exit(1 if name == "broken" else 0)
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `python -m step NAME WAITS_FOR` is a recipe."""
    (tmp_path / "step.py").write_text(STEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_one_track_may_be_run_alone(steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [{"a": [["step", "a", ""]], "b": [["step", "b", ""]]}, {"c": [["step", "c", ""]]}]
    monkeypatch.setitem(TASKS, "toy", lambda _: stages)
    monkeypatch.setattr("sys.argv", ["run", "toy", "--only", "b"])
    main()
    assert (steps / "order").read_text().split() == ["b"]
