"""Changes to a network that OpenVINO has read: the same outputs for less work.

Rules.
1. Only a transposed convolution is changed whose kernel is as large as its stride (each cell gives
   a block of its own, blocks.py) and to whose result a constant is added for each channel. OpenVINO
   takes several times as long for it as for the same products in another order. All else, and what
   is not exactly that, stays as it was read.
2. One channel: a convolution of one cell with a channel for each place in the block, whose channels
   are then laid out as voxels (OpenVINO operations, DepthToSpace-1, `depth_first`).
3. Several channels of one volume that are an output as they are: the network ends at the features,
   and blocks.py makes what is asked of the output. Nobody needs classes outside the lungs, and all
   of them are 29 MB of a chest at 3 mm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from appliance.backend.blocks import Kernel

SPATIAL = 3


def changed(model: Any) -> dict[str, Kernel]:
    """Changes an openvino.Model in place; outputs that end at their features -> what makes them."""
    cut: dict[str, Kernel] = {}
    for node, added, kernel in list(_heads(model)):
        result = _result(added)
        if kernel.channels == 1:
            _relaid(node, added, kernel)
        elif result is not None and node.get_output_partial_shape(0)[0] == 1:
            (name,) = added.output(0).get_names()
            added.output(0).set_names(set())
            result.input(0).replace_source_output(node.input_value(0))
            node.input_value(0).add_names({name})
            cut[name] = kernel
    if cut:
        model.validate_nodes_and_infer_types()
    return cut


def _heads(model: Any) -> Iterator[tuple[Any, Any, Kernel]]:
    """Each transposed convolution of rule 1, the sum after it, and its kernel."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "ConvolutionBackpropData" or len(node.input_values()) != 2:
            continue
        weights, said = node.input_value(1).get_node(), node.get_attributes()
        users = list(node.output(0).get_target_inputs())
        if weights.get_type_name() != "Constant" or len(users) != 1:
            continue
        values, added = np.array(weights.data, np.float32), users[0].get_node()
        sides, zeros = list(values.shape[2:]), [0] * SPATIAL
        plain = (
            len(set(sides)) == 1
            and said["strides"] == sides
            and said["dilations"] == [1] * SPATIAL
            and said["pads_begin"] == said["pads_end"] == said["output_padding"] == zeros
        )
        bias = _bias(node, added, values.shape[1]) if plain else None
        if bias is not None:
            yield node, added, Kernel(values, bias)


def _bias(node: Any, added: Any, channels: int) -> Any:
    """The constant [channels] that is added after a node; None where it is something else."""
    if added.get_type_name() != "Add":
        return None
    others = [v for v in added.input_values() if v.get_node() != node]
    shape = [1, channels, *[1] * SPATIAL]
    if len(others) != 1 or list(others[0].get_partial_shape().to_shape()) != shape:
        return None
    one = others[0].get_node()
    while one.get_type_name() in {"Reshape", "Unsqueeze"}:
        one = one.input_value(0).get_node()
    if one.get_type_name() != "Constant":
        return None
    return np.array(one.data, np.float32).reshape(channels)


def _result(node: Any) -> Any:
    """The output of the network that a node is; None where it is none, or not only that."""
    users = [one.get_node() for one in node.output(0).get_target_inputs()]
    only = len(users) == 1 and users[0].get_type_name() == "Result"
    return users[0] if only and len(node.output(0).get_names()) == 1 else None


def _relaid(node: Any, added: Any, kernel: Kernel) -> None:
    """Rule 2, in place of a transposed convolution and the sum after it."""
    from openvino import opset13 as ops  # noqa: PLC0415 - a stage pays for what it uses

    one, none = [1] * SPATIAL, [0] * SPATIAL
    rows = kernel.rows()
    weights = ops.constant(rows.reshape(*rows.shape, *one))
    bias = np.full((1, len(rows), *one), kernel.bias.item(), np.float32)
    channels = ops.convolution(node.input_value(0), weights, one, none, none, one)
    voxels = ops.depth_to_space(
        ops.add(channels, ops.constant(bias)), "depth_first", kernel.side
    ).output(0)
    names = added.output(0).get_names()
    added.output(0).set_names(set())
    for user in list(added.output(0).get_target_inputs()):
        user.replace_source_output(voxels)
    voxels.add_names(names)
