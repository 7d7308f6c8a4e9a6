"""`tiny-brightness` 1.0.0: the mean of the middle 8 x 8 pixels of a slice, made by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

SIZE, THRESHOLD = 8, 0.6
"""In a window from -1000 to 400 HU water is 0.71 and air 0."""


def packed(folder: Path) -> bytes:
    """The bundle; its source is written into this folder."""
    import onnxruntime  # noqa: PLC0415

    from compile.pack import pack  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    model = _mean()
    image = np.random.default_rng(5).random((3, 1, SIZE, SIZE), dtype=np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    case = io.BytesIO()
    np.savez_compressed(case, input=image, mean=session.run(None, {"image": image})[0])
    (folder / "golden").mkdir(parents=True)
    (folder / "golden" / "classify.npz").write_bytes(case.getvalue())
    (folder / "classify.onnx").write_bytes(model)
    (folder / "source.json").write_text(json.dumps(_source()))
    return pack(folder)


def _source() -> dict[str, Any]:
    return {
        "schema": "scanside.bundle/1",
        "name": "tiny-brightness",
        "version": "1.0.0",
        "title": "Tiny brightness bundle for tests",
        "intended_use": "Tests of the appliance. It finds nothing that means anything.",
        "notice": "research use, not for clinical use",
        "requires_appliance": "0.1.0",
        "licence": "Apache-2.0",
        "accepts": {
            "modality": ["CT"],
            "body_part": ["ABDOMEN", "CHEST"],
            "spacing_mm": {"full": 5.0, "limited": 10.0},
            "cover_mm": 50.0,
        },
        "line": {
            "kind": "brightness",
            "version": 1,
            "output": "mean",
            "threshold": THRESHOLD,
            "max_findings": 3,
        },
        "networks": {
            "classify": {
                "file": "classify.onnx",
                "precision": "fp32",
                "inputs": [{"name": "image", "shape": [-1, 1, SIZE, SIZE]}],
                "outputs": [{"name": "mean", "shape": [-1]}],
                "preprocess": [
                    {"op": "rescale"},
                    {"op": "orient"},
                    {"op": "patch", "size": SIZE},
                    {"op": "window", "low": -1000.0, "high": 400.0},
                ],
            }
        },
        "goldens": [{"network": "classify", "file": "golden/classify.npz", "atol": 1e-4}],
        "provenance": {
            "sources": [{"name": "none", "licence": "Apache-2.0", "digest": "-"}],
            "seed": 0,
            "code_digest": "-",
            "made": "2026-01-01",
        },
    }


def _mean() -> bytes:
    """[n, 1, y, x] -> [n]."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    axes = numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes")
    node = helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0)
    graph = helper.make_graph(
        [node],
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n"])],
        [axes],
    )
    opset = helper.make_opsetid("", 18)
    data: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    return data
