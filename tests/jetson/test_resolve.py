"""What is asked of pip for a Jetson; the answer itself is `make check`'s."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from compile import lock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def resolver() -> Any:
    spec = importlib.util.spec_from_file_location("resolve", ROOT / "jetson" / "resolve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_jetson_is_asked_for_every_runtime_dependency_and_never_for_training(
    resolver: Any,
) -> None:
    for target in resolver.JETPACKS.values():
        names = {pin.name for pin in resolver.wanted(target)}
        always = map(Requirement, lock.project()["project"]["dependencies"])
        asked = {one for one in always if target.takes(str(one.marker or ""))}
        assert {canonicalize_name(one.name) for one in asked} <= names
        assert {"openvino", "onnx"} <= names
        assert not {"torch", "scipy", "tensorrt", "pycuda"} & names
    older = resolver.wanted(resolver.JETPACKS["6.2 (Ubuntu 22.04)"])
    assert "tomli" in {pin.name for pin in older}, "the marker is judged for its Python, not ours"


def test_a_wheel_that_is_missing_or_another_than_the_locked_one_is_named(resolver: Any) -> None:
    pins = [lock.Pin("a", "1", "", ("0" * 64, "1" * 64)), lock.Pin("b", "2", "", ("2" * 64,))]
    assert resolver.wrong(pins, {"a": "1" * 64, "b": "2" * 64}) == []
    assert resolver.wrong(pins, {"a": "3" * 64}) == [
        "a 1: its wheel is not the one of locks/device.txt",
        "b 2: no wheel",
    ]
