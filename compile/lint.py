"""What TensorRT's parser, builder or INT8 kernels would refuse or waste, said before a device does.

    python -m compile lint BUNDLE.scanside

Each finding names the network, the node, the rule and what to change. `error`: TensorRT refuses the
network or computes something else. `advice`: it runs, but INT8 brings nothing there.

Rules (TensorRT Developer Guide, "Working with Quantized Types"; ONNX operators QuantizeLinear,
DequantizeLinear). A network without Q/DQ is held to `opset` and `axes` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from appliance.bundle.graph import OPSETS, STANDARD
from appliance.bundle.manifest import Network
from appliance.bundle.trust import Loaded

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
FEW_CHANNELS = 16
MAX_RANK = 5
LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Finding:
    """One place that breaks a rule."""

    network: str
    node: str
    rule: str
    severity: Literal["error", "advice"]
    text: str
    remedy: str

    def one_line(self) -> str:
        """For a terminal."""
        return (
            f"{self.severity} {self.network}: {self.node}: {self.text} [{self.rule}] {self.remedy}"
        )


class Graph:
    """An ONNX graph with who makes what and every stored value."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.stored: dict[str, TensorProto] = {w.name: w for w in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self.stored[node.output[0]] = attribute.t

    def behind(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The maker of a tensor where it is of this kind."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type == kind else None

    def value(self, node: onnx.NodeProto, at: int) -> NDArray[np.generic] | None:
        """A stored input of a node; None where it has none or it is computed."""
        if at >= len(node.input) or node.input[at] not in self.stored:
            return None
        array: NDArray[np.generic] = numpy_helper.to_array(self.stored[node.input[at]])
        return array

    def weight(self, layer: onnx.NodeProto) -> tuple[onnx.NodeProto | None, NDArray[np.generic]]:
        """(its DequantizeLinear or None, the stored weight) of a layer; an empty array where the
        weight is not stored."""
        dequantize = self.behind(layer.input[1], DEQUANTIZE)
        holder = (dequantize, 0) if dequantize is not None else (layer, 1)
        quantize = self.behind(dequantize.input[0], QUANTIZE) if dequantize is not None else None
        if quantize is not None:
            holder = (quantize, 0)
        found = self.value(*holder)
        return dequantize, np.zeros(0) if found is None else found

    def pairs(self) -> Iterator[onnx.NodeProto]:
        """Every Q and every DQ."""
        return (node for node in self.nodes if node.op_type in (QUANTIZE, DEQUANTIZE))


Found = Iterator[tuple[str, str, str]]
"""(node, text, remedy)"""
AGAIN = "Quantise again with training.ship.quantize."


def named(node: onnx.NodeProto) -> str:
    """A node's name, or its operator and first output where it has none."""
    return node.name or f"{node.op_type} -> {node.output[0]}"


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def opset(graph: Graph) -> Found:
    """Only ONNX's own operators, of an opset every supported TensorRT parses."""
    for node in graph.nodes:
        if node.domain not in STANDARD:
            remedy = "Export standard ONNX operators."
            yield named(node), f"{node.op_type} of {node.domain!r} is no standard operator", remedy
    for entry in graph.model.opset_import:
        if entry.domain in STANDARD and entry.version not in OPSETS:
            remedy = f"Export with an opset of {OPSETS.start} to {OPSETS.stop - 1}."
            yield "the file", f"opset {entry.version}", remedy


def zero_point(graph: Graph) -> Found:
    """Symmetric: TensorRT refuses a zero point other than 0."""
    for node in graph.pairs():
        zero = graph.value(node, 2)
        if zero is not None and np.any(zero):
            yield named(node), f"its zero point is {zero.ravel()[0]}, not 0", AGAIN
        elif zero is None and len(node.input) > 2:
            yield named(node), "its zero point is computed, not stored", AGAIN


def int8(graph: Graph) -> Found:
    """Signed 8 bits on both sides of a pair; no zero point at all means uint8 (ONNX)."""
    for node in graph.pairs():
        name = node.input[2] if len(node.input) > 2 else ""
        if node.op_type == QUANTIZE:
            kind = graph.stored[name].data_type if name in graph.stored else TensorProto.UINT8
        else:
            stored = graph.stored.get(name) or graph.stored.get(node.input[0])
            kind = stored.data_type if stored is not None else TensorProto.INT8
        if kind != TensorProto.INT8:
            yield named(node), f"it is {TensorProto.DataType.Name(kind).lower()}, not int8", AGAIN


def scale(graph: Graph) -> Found:
    """Scales are stored, positive and finite."""
    for node in graph.pairs():
        value = graph.value(node, 1)
        if value is None:
            yield named(node), "its scale is computed, not stored", AGAIN
        elif not np.all(np.isfinite(np.asarray(value, float)) & (np.asarray(value, float) > 0)):
            yield named(node), "a scale is not a positive number", AGAIN


def per_channel(graph: Graph) -> Found:
    """Weights have one scale per output channel: axis 0 of Conv, the output axis of Gemm."""
    for layer in graph.nodes:
        if layer.op_type not in ("Conv", "Gemm"):
            continue
        pair, weight = graph.weight(layer)
        if pair is None or not weight.size:
            continue
        axis = 0 if layer.op_type == "Conv" or attribute(layer, "transB", 0) else 1
        scales = graph.value(pair, 1)
        count = 1 if scales is None else scales.size
        if count == 1 and weight.shape[axis] > 1:
            yield named(layer), "one scale for all of its output channels", AGAIN
        elif count > 1 and attribute(pair, "axis", 1) != axis:
            found = attribute(pair, "axis", 1)
            yield named(layer), f"its weight scales lie on axis {found}, not {axis}", AGAIN


def float_bias(graph: Graph) -> Found:
    """TensorRT refuses an int32 bias behind DequantizeLinear."""
    for layer in graph.nodes:
        with_bias = layer.op_type in (*LAYERS, "ConvTranspose") and len(layer.input) > 2
        if with_bias and graph.behind(layer.input[2], DEQUANTIZE) is not None:
            yield named(layer), "its bias is quantised", "Leave biases float32."


def both_or_none(graph: Graph) -> Found:
    """A layer with INT8 weights wants an INT8 input, and the other way round: else it runs in
    float and the conversion is paid for nothing."""
    for layer in graph.nodes:
        if layer.op_type in LAYERS and len(layer.input) > 1:
            image = graph.behind(layer.input[0], DEQUANTIZE) is not None
            pair, weight = graph.weight(layer)
            if weight.size and (pair is not None) and not image:
                yield named(layer), "its weight is INT8, its input is float", AGAIN


def residual_add(graph: Graph) -> Found:
    """Q/DQ on the residual branch only: on both, Conv + Add + ReLU cannot become one kernel."""
    for node in graph.nodes:
        if node.op_type != "Add":
            continue
        pairs = [graph.behind(name, DEQUANTIZE) for name in node.input]
        if None in pairs:
            continue
        for pair in pairs:
            quantize = graph.behind(pair.input[0], QUANTIZE) if pair is not None else None
            if quantize is not None and graph.behind(quantize.input[0], "Conv") is not None:
                remedy = "Take Q/DQ off the branch of the last convolution."
                yield named(node), "both of its branches carry Q/DQ", remedy
                break


def conv_transpose(graph: Graph) -> Found:
    """ConvTranspose stays float, or has one scale for the whole weight."""
    for layer in graph.nodes:
        if layer.op_type == "ConvTranspose":
            pair, _ = graph.weight(layer)
            scales = graph.value(pair, 1) if pair is not None else None
            if scales is not None and scales.size > 1:
                remedy = "Leave it float, or quantise its weight per tensor."
                yield named(layer), "its weight is quantised per channel", remedy


def stored_int8(graph: Graph) -> Found:
    """Weights are stored as int8: Q/DQ around float weights keeps the file at its full size."""
    for layer in graph.nodes:
        if layer.op_type in (*LAYERS, "ConvTranspose"):
            pair, weight = graph.weight(layer)
            if pair is not None and weight.size and weight.dtype != np.int8:
                yield named(layer), "its weight is float behind Q/DQ", AGAIN


def float_output(graph: Graph) -> Found:
    """An output in 255 steps loses what its consumers rank by."""
    for port in graph.model.graph.output:
        if graph.behind(port.name, DEQUANTIZE) is not None:
            yield port.name, "this output is quantised", "Keep the last layer float."


def few_channels(graph: Graph) -> Found:
    """Below 16 channels TensorRT's INT8 kernels are padded: no gain over FP16."""
    for layer in graph.nodes:
        if layer.op_type != "Conv":
            continue
        pair, weight = graph.weight(layer)
        if pair is not None and weight.ndim > 2 and min(weight.shape[:2]) < FEW_CHANNELS:
            shape = f"{weight.shape[1]} -> {weight.shape[0]} channels"
            yield named(layer), f"INT8 with {shape}", "Measure it; FP16 may be as fast."


ERRORS: tuple[Callable[[Graph], Found], ...] = (
    opset,
    zero_point,
    int8,
    scale,
    per_channel,
    float_bias,
    residual_add,
    conv_transpose,
    stored_int8,
    float_output,
)
ADVICE: tuple[Callable[[Graph], Found], ...] = (few_channels, both_or_none)


def axes(graph: Graph, network: Network) -> Found:
    """Free axes are those that the manifest leaves free; no port has more than 5."""
    inputs = [p for p in graph.model.graph.input if p.name not in graph.stored]
    outputs = graph.model.graph.output
    for port, wanted in [*zip(inputs, network.inputs, strict=False)]:
        shape = [d.dim_value or -1 for d in port.type.tensor_type.shape.dim]
        if len(shape) > MAX_RANK:
            yield port.name, f"{len(shape)} axes", f"Use at most {MAX_RANK}."
        for axis, (is_so, declared) in enumerate(zip(shape, wanted.shape, strict=False)):
            if (is_so == -1) != (declared == -1):
                free = "free" if is_so == -1 else "fixed"
                yield (
                    port.name,
                    f"axis {axis} is {free}, the manifest says {declared}",
                    "Export again.",
                )
    for port in outputs:
        if len(port.type.tensor_type.shape.dim) > MAX_RANK:
            yield port.name, "too many axes", f"Use at most {MAX_RANK}."


def precision(graph: Graph, network: Network) -> Found:
    """The manifest's word on precision is what the file holds."""
    quantised = any(graph.pairs())
    if quantised != (network.precision == "int8"):
        has = "has" if quantised else "has no"
        yield "the file", f"it {has} Q/DQ, the manifest says {network.precision}", "Correct it."


def lint(data: bytes, network: Network, role: str) -> list[Finding]:
    """Every finding of one network, errors first."""
    graph = Graph(onnx.load_model_from_string(data))
    found: list[Finding] = []
    for severity, rules in (("error", ERRORS), ("advice", ADVICE)):
        for rule in rules:
            for node, text, remedy in rule(graph):
                found.append(Finding(role, node, rule.__name__, severity, text, remedy))  # type: ignore[arg-type]
    for check in (axes, precision):
        for node, text, remedy in check(graph, network):
            found.append(Finding(role, node, check.__name__, "error", text, remedy))
    return sorted(found, key=lambda f: f.severity != "error")


def lint_bundle(loaded: Loaded) -> list[Finding]:
    """Every finding of a bundle's networks."""
    networks: Mapping[str, Network] = dict(loaded.manifest.networks.items())
    return [f for role, n in networks.items() for f in lint(loaded.networks[role], n, role)]
