"""The steps of chest-pneumonia: what is exported was trained before."""

from __future__ import annotations

from importlib import import_module

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")
from training.recipes.chest_pneumonia.export import Knobs
from training.recipes.chest_pneumonia.stages import STEPS, stages


def run_of(command: list[str]) -> str:
    """The run that a step writes."""
    if "--name" in command:
        return command[command.index("--name") + 1]
    name: str = import_module(command[0]).Knobs().name
    return name


def test_every_run_that_is_exported_is_trained_before() -> None:
    first, last = stages("out")
    trained = {run_of(command) for track in first.values() for command in track}
    k = Knobs()
    wanted = {k.name, k.double, *k.rivals.split(","), k.frontal}
    assert wanted <= trained
    assert last["export"][-1] == [f"{STEPS}.export", "--out", "out"]
