"""A network with Q/DQ pairs -> the same network without them, in float32.

What INT8 is compared with: by layer on a GPU (bench/layers.py), and in the compiler gate (gate.py).

Rules.
1. A stored int8 weight becomes the float32 values that it stands for, `q * scale` of its channel:
   the float network has the INT8 network's weights, not those from before quantising.
2. Of an activation both nodes of the pair go: who read the DequantizeLinear reads what the
   QuantizeLinear read, neither rounded nor clipped.
3. Any other Q/DQ (a pair of which one node stands alone, a blocked scale) is refused by its name.
4. Ports keep their names and types; the same file gives the same file.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import BundleRefused
from compile.lint import DEQUANTIZE, QUANTIZE, Graph, attribute, named


def unquantized(data: bytes) -> bytes:
    """The network in float32; the very file where it has no Q/DQ. BundleRefused `unquantized`."""
    model = onnx.load_model_from_string(data)
    graph = Graph(model)
    pairs = [node for node in graph.nodes if node.op_type in (QUANTIZE, DEQUANTIZE)]
    if not pairs:
        return data
    weights: dict[str, TensorProto] = {}
    instead: dict[str, str] = {}
    """Output of a DequantizeLinear -> what is read in its place."""
    for node in pairs:
        if node.op_type == QUANTIZE:
            readers = [n for n in graph.nodes if node.output[0] in n.input]
            if not readers or any(n.op_type != DEQUANTIZE for n in readers):
                raise _refused(node, "what it makes is read as int8")
            continue
        (name,) = node.output
        quantize = graph.behind(node.input[0], QUANTIZE)
        if quantize is not None:
            instead[name] = quantize.input[0]
        else:
            weights[name] = numpy_helper.from_array(_weight(graph, node), name)
    _write(model, weights, instead)
    onnx.checker.check_model(model, full_check=True)
    done: bytes = model.SerializeToString(deterministic=True)
    return done


def _weight(graph: Graph, node: onnx.NodeProto) -> NDArray[np.float32]:
    """Rule 1."""
    stored, scale = graph.value(node, 0), graph.value(node, 1)
    zero = graph.value(node, 2)
    if stored is None or scale is None or (zero is not None and np.any(zero)):
        raise _refused(node, "its weight or scale is not stored, or its zero point is not 0")
    if scale.size > 1:
        axis = attribute(node, "axis", 1) % stored.ndim
        if scale.shape != (stored.shape[axis],):
            raise _refused(node, f"scales of {scale.shape} for a weight of {stored.shape}")
        scale = scale.reshape([-1 if i == axis else 1 for i in range(stored.ndim)])
    return np.asarray(stored.astype(np.float32) * scale.astype(np.float32))


def _write(
    model: onnx.ModelProto, weights: dict[str, TensorProto], instead: dict[str, str]
) -> None:
    def origin(name: str) -> str:
        while name in instead:  # a pair behind a pair
            name = instead[name]
        return name

    ports = {port.name for port in model.graph.output}
    nodes = []
    for node in model.graph.node:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            name = node.output[0]
            if name in ports:
                nodes.append(helper.make_node("Identity", [origin(name)], [name], name=node.name))
            continue
        for at, name in enumerate(node.input):
            node.input[at] = origin(name)
        nodes.append(node)
    read = {name for node in nodes for name in node.input}
    kept = [w for w in model.graph.initializer if w.name in read]
    made = [weights[name] for name in sorted(weights) if name in read]
    model.graph.ClearField("value_info")
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, [*kept, *made])):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)


def _refused(node: onnx.NodeProto, why: str) -> BundleRefused:
    return BundleRefused(
        f"{named(node)} cannot be taken out: {why}",
        code="unquantized",
        remedy="Quantise again with training.ship.quantize.",
    )
