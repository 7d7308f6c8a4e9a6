"""What is asked of pip for a Jetson; the answer itself is `make check`'s."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def resolver() -> object:
    spec = importlib.util.spec_from_file_location("resolve", ROOT / "jetson" / "resolve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_jetson_is_asked_for_every_runtime_dependency_and_never_for_training() -> None:
    asked = {Requirement(text).name for text in resolver().wanted()}
    metadata = importlib.metadata.distribution("scanside").requires or []
    always = {r.name for r in map(Requirement, metadata) if "extra" not in str(r.marker or "")}
    assert always <= asked
    assert {"openvino", "onnx"} <= asked
    assert not {"torch", "scipy", "tensorrt", "pycuda"} & asked


def test_only_wheels_that_its_c_library_can_load_are_taken() -> None:
    tags = resolver().platforms((2, 35))
    assert tags[0] == "manylinux_2_35_aarch64"
    assert "manylinux_2_36_aarch64" not in tags
    assert {"manylinux2014_aarch64", "manylinux_2_28_aarch64"} <= set(tags)
