"""What was quantised of a checkpoint is not quantised again, and anything else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.networks import DrawnMassNet, MassNet, MeasureNet, SickLungNet
from training.read.files import file_digest
from training.recipes.lung_nodule.quantize import Knobs, change, done, empty, made_of

KNOBS = Knobs(network="mass")
CHANGES: dict[str, Callable[[Path], Any]] = {
    "another checkpoint": lambda folder: (folder / "last.pt").write_bytes(b"longer"),
    "another INT8 file": lambda folder: (folder / "int8.onnx").write_bytes(b"cut"),
    "no INT8 file": lambda folder: (folder / "int8.onnx").unlink(),
    "a half-written figure file": lambda folder: (folder / "quantize.json").write_text("{"),
    "a figure file of before": lambda folder: (folder / "quantize.json").write_text("{}"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "last.pt").write_bytes(b"weights")
    (tmp_path / "int8.onnx").write_bytes(b"network")
    about = {"made_of": made_of(tmp_path, KNOBS), "sha256": file_digest(tmp_path / "int8.onnx")}
    (tmp_path / "quantize.json").write_text(json.dumps(about))
    return tmp_path


def test_the_same_checkpoint_and_knobs_are_done(folder: Path) -> None:
    assert done(folder, made_of(folder, KNOBS))
    assert not done(folder, made_of(folder, replace(KNOBS, images=3)))


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_made_again(folder: Path, change: str) -> None:
    CHANGES[change](folder)
    assert not done(folder, made_of(folder, KNOBS))


def test_the_knobs_of_a_run_tell_whether_its_network_draws() -> None:
    assert isinstance(empty("mass", {"body_weight": 0.5}), DrawnMassNet)
    for before in ({}, {"body_weight": 0.0}):
        assert isinstance(empty("mass", before), MassNet)
    assert isinstance(empty("segment", {"lungs": "segment"}), SickLungNet)
    for before in ({}, {"hosts": "A0001"}):
        assert not isinstance(empty("segment", before), SickLungNet)
    assert isinstance(empty("measure", {"body_weight": 1.0}), MeasureNet)


def test_damage_is_that_of_the_map_that_changed_most_near_a_decision() -> None:
    def maps(heat: float, body: list[float]) -> list[np.ndarray]:
        return [np.full((1, 1, 2), heat), np.array(body)]

    before = [maps(0.0, [0.0, 9.0]), maps(1.0, [1.0, -9.0])]
    after = [maps(0.1, [0.3, 2.0]), maps(1.1, [1.3, 4.0])]
    assert change(after, before, 6.0) == pytest.approx(0.3)
    assert change([one[:1] for one in after], [one[:1] for one in before], 6.0) == pytest.approx(
        0.1
    )
