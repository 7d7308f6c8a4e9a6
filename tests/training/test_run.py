"""The chain of a task names steps that exist and knobs that they have."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from rigs.tiny_luna16 import tiny_luna16
from training.errors import command
from training.learn.knobs import override
from training.recipes.lung_nodule import luna16_stages
from training.run import TASKS, main

LUNA16 = "lung-nodule on LUNA16"


@pytest.mark.parametrize("task", sorted([*TASKS, LUNA16]))
def test_every_step_is_a_recipe_with_those_knobs(
    task: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path / "work"))
    if task == LUNA16:
        stages = luna16_stages.stages(tiny_luna16(tmp_path), "build/luna16", 1)
    else:
        stages = TASKS[task](f"build/{task}")
    tracks = [track for stage in stages for track in stage.values()]
    for module, *words in [step for track in tracks for step in track]:
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


def test_luna16_is_for_nodules_and_a_folder_that_is_none_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path / "work"))
    monkeypatch.setattr("sys.argv", ["run", "lung-compare", "--luna16", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert "--luna16 is for lung-nodule" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["run", "lung-nodule", "--luna16", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no annotations\.csv in it"):
        command(main)
