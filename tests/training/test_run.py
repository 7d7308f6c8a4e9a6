"""The chain of a task names steps that exist and knobs that they have."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.learn.knobs import override
from training.run import TASKS, main


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


def test_one_track_may_be_run_alone(steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [{"a": [["step", "a", ""]], "b": [["step", "b", ""]]}, {"c": [["step", "c", ""]]}]
    monkeypatch.setitem(TASKS, "toy", lambda _: stages)
    monkeypatch.setattr("sys.argv", ["run", "toy", "--only", "b"])
    main()
    assert (steps / "order").read_text().split() == ["b"]


def test_the_names_of_all_tasks_are_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run", "--list"])
    main()
    assert capsys.readouterr().out.split() == list(TASKS)


def test_a_run_without_a_task_names_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "name a task: lung-nodule, chest-pneumonia" in capsys.readouterr().err
