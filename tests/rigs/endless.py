"""A network whose golden case is never done in the time of a test."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from rigs.shelves import Forge

SIZE, LAYERS = 2048, 4000
"""Multiplications that take a fast core many minutes: 17 billion operations a layer."""


def endless() -> bytes:
    """It has no loop."""
    value, chain = helper.make_tensor_value_info, []
    for n in range(LAYERS):
        chain.append(helper.make_node("MatMul", [f"x{n}", "w"], [f"y{n}"]))
        chain.append(helper.make_node("Tanh", [f"y{n}"], [f"x{n + 1}"]))
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["x"], keepdims=0),
        helper.make_node("Expand", ["x", "square"], ["x0"]),
        helper.make_node("Add", ["x0", "small"], ["w"]),
        *chain,
        helper.make_node("ReduceMean", [f"x{LAYERS}"], ["one"], keepdims=0),
        helper.make_node("Add", ["image", "one"], ["lungs"]),
    ]
    weights = {"square": np.array([SIZE, SIZE]), "small": np.float32(1e-3)}
    shape = [1, 1, "z", "y", "x"]
    graph = helper.make_graph(
        nodes,
        "endless",
        [value("image", TensorProto.FLOAT, shape)],
        [value("lungs", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    opset = helper.make_opsetid("", 17)
    data: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    return data


@pytest.fixture
def endless_bytes(forge: Forge) -> bytes:
    """The tiny bundle with it."""
    return forge(put={"segment.onnx": endless()})
