"""What was quantised of a checkpoint is not quantised again, and anything else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from training.read.files import file_digest
from training.recipes.lung_nodule.quantize import Knobs, done, made_of

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
