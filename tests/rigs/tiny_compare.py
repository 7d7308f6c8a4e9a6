"""A tiny bundle that compares two exams, by hand: its field is 8 mm times what prior is brighter
than current, along z; along y and x it is nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

NAME = "tiny-compare"


def source() -> dict[str, Any]:
    """source.json."""
    volume = [1, 1, -1, -1, -1]
    return {
        "schema": "scanside.bundle/1",
        "name": NAME,
        "version": "1.0.0",
        "title": "Tiny bundle of comparisons for tests",
        "intended_use": "Tests of the appliance. It compares nothing.",
        "notice": "research use, not for clinical use",
        "requires_appliance": "0.2.0",
        "licence": "Apache-2.0",
        "accepts": {"modality": ["CT"], "body_part": ["CHEST"]},
        "line": {
            "kind": "compare",
            "version": 1,
            "displace": {"output": "field"},
            "repeatability": [
                {
                    "size_mm": [4.0, 8.0],
                    "density": "solid",
                    "kernel": "same",
                    "volume_percent": 12.0,
                    "axis_mm": 0.5,
                    "n": 30,
                }
            ],
        },
        "networks": {
            "displace": {
                "file": "displace.onnx",
                "precision": "fp32",
                "inputs": [{"name": n, "shape": volume} for n in ("prior", "current")],
                "outputs": [{"name": "field", "shape": [1, 3, -1, -1, -1]}],
                "preprocess": [],
            }
        },
        "goldens": [{"network": "displace", "file": "golden/displace.npz", "atol": 0.001}],
        "provenance": {
            "sources": [],
            "seed": 0,
            "code_digest": "0" * 64,
            "made": "2026-01-01T00:00:00+00:00",
        },
    }


def write_source(folder: Path) -> Path:
    """The source folder, for `compile pack`."""
    model = _network()
    (folder / "golden").mkdir(parents=True)
    (folder / "source.json").write_text(json.dumps(source()))
    (folder / "displace.onnx").write_bytes(model)
    (folder / "golden" / "displace.npz").write_bytes(_golden(model))
    return folder


def packed(folder: Path) -> bytes:
    """The bundle, packed of a source folder that is written first."""
    from compile.pack import pack  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    return pack(write_source(folder))


def _network() -> bytes:
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    weights = {
        "both": np.array([[8.0, -8.0], [0, 0], [0, 0]], np.float32).reshape(3, 2, 1, 1, 1),
    }
    nodes = [
        helper.make_node("Concat", ["prior", "current"], ["pair"], axis=1),
        helper.make_node("Conv", ["pair", "both"], ["field"]),
    ]
    volume: list[Any] = [1, 1, "z", "y", "x"]
    graph = helper.make_graph(
        nodes,
        "displace",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, volume)
            for name in ("prior", "current")
        ],
        [helper.make_tensor_value_info("field", TensorProto.FLOAT, [1, 3, "z", "y", "x"])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def _golden(model: bytes) -> bytes:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(3)
    given = {name: random.random((1, 1, 8, 8, 16), np.float32) for name in ("prior", "current")}
    case = io.BytesIO()
    np.savez_compressed(case, **given, field=session.run(None, given)[0])
    return case.getvalue()
