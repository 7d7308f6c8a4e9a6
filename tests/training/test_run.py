"""The chain of a task names recipes that exist and knobs that they have."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.loop import override
from training.run import FOLDS, TASKS


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_step_is_a_recipe_with_those_knobs(
    task: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    for module, *words in TASKS[task](f"build/{task}"):
        recipe = importlib.import_module(module)
        own = getattr(getattr(recipe, "Knobs", None), "__module__", "")
        if own == module:  # a judging command may have those of the recipe that it judges
            override(recipe.Knobs(), words)
        assert callable(recipe.main)


def test_no_fold_trains_on_the_scan_it_leaves_out() -> None:
    for left_out, hosts in FOLDS.items():
        assert left_out not in hosts.split(",")
