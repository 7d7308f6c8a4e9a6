"""A network in float32 -> the same in float16, written into the ONNX file.

    python -m compile engine BUNDLE --target this      # does it before it builds

A strongly typed engine has the types of its ONNX file (tensorrt.py, rule 2): without this step all
that is not INT8 would run in float32.

Rules.
1. Ports keep their names and types: one Cast behind an input, one before an output. Whoever feeds
   the network, and the golden cases, know nothing of it.
2. KEPT operators, which add up many values or grow without bound, compute in float32 between Casts;
   so does a layer with a weight beyond float16's range.
3. Q/DQ stay INT8, with float16 scales: a DequantizeLinear gives the type of its scale. That needs
   opset 19 (ONNX operators, QuantizeLinear-19: T1 float16), so a network of opset 18 is lifted to
   19. Of the operators that 19 changed, SAME_IN_19 mean the same with the attributes they have; any
   other, and an opset below 18 (ReduceMean-18 took its axes elsewhere), is refused.
4. A scale that float16 holds with a relative error above SCALE_ERROR (below 6e-5 its steps are
   coarse) keeps its layer in float32, with both of the layer's pairs, so that Q/DQ stay next to it.
5. The same file gives the same file. The signed bundle stays float32: a CPU gains nothing by this.
6. `lowered` takes float16 only where the network's golden cases, with the tolerance that the bundle
   states, hold in float16 on onnxruntime. That is the stricter place: it rounds every operator's
   result to float16, where a fused kernel of TensorRT rounds once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from appliance.bundle import golden
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused
from compile.lint import DEQUANTIZE, QUANTIZE, Graph, named
from compile.pack import onnxruntime_infer

SCALE_ERROR = 2.0**-10
OPSET = 19
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
KEPT = frozenset(
    {
        "Exp", "GlobalAveragePool", "InstanceNormalization", "LayerNormalization", "Log",
        "LogSoftmax", "Pow", "ReduceL2", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum",
        "ReduceSumSquare", "Sigmoid", "Softmax", "Softplus", "Sqrt",
    }
)  # fmt: skip
SAME_IN_19 = frozenset({"Cast", "Identity", "Pad", "Reshape", "Resize", "Shape", "Size"})
"""Beside Q/DQ themselves. Not AveragePool, whose last window under ceil_mode changed."""
FLOAT_INPUTS = {"Resize": (1, 2)}
"""Operator -> inputs that are float32 whatever its data is: region and scales."""

_SHORT = {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "half"}


@dataclass(frozen=True, slots=True)
class Lowered:
    """The ONNX file that a network's engine is built of."""

    data: bytes
    types: Literal["float32", "float16"]
    why: str
    """How far float16 was off, or why it could not be."""


def lowered(loaded: Loaded) -> Mapping[str, Lowered]:
    """Rule 6, by role. BundleRefused `bundle_golden` where a golden case cannot be read."""
    return {role: _lowered(loaded, role) for role in loaded.manifest.networks}


def _lowered(loaded: Loaded, role: str) -> Lowered:
    network = loaded.networks[role]
    cases = tuple((case, data) for case, data in loaded.goldens if case.network == role)
    try:
        data = half(network)
        changed = replace(loaded, networks={**loaded.networks, role: data}, goldens=cases)
        results = tuple(golden.run(changed, onnxruntime_infer(changed)))
    except BundleRefused as e:
        if e.code == "bundle_golden":
            raise
        return Lowered(network, "float32", e.text)
    gate = golden.Gate(passed=bool(results) and all(r.passed for r in results), results=results)
    why = f"float16 is off by {gate.one_line()}"
    return Lowered(data, "float16", why) if gate.passed else Lowered(network, "float32", why)


def half(data: bytes) -> bytes:
    """The network in float16. BundleRefused `half_opset`, `half_subgraph` or `half_types`."""
    model = onnx.load_model_from_string(data)
    if any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute):
        raise _refused("it has branches or loops", "half_subgraph")
    _lift(model)
    typed = shape_inference.infer_shapes(model, strict_mode=True)
    values = [*typed.graph.value_info, *typed.graph.input, *typed.graph.output]
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    if any(v.type.tensor_type.elem_type == TensorProto.FLOAT16 for v in values):
        raise _refused("it holds float16 already", "half_types")
    graph = Graph(model)
    _Rewritten(model, floats, kept(graph)).write()
    model.graph.ClearField("value_info")
    onnx.checker.check_model(model, full_check=True)
    done: bytes = model.SerializeToString(deterministic=True)
    return done


def kept(graph: Graph) -> frozenset[int]:
    """Places in graph.nodes of what stays float32, by rules 2 and 4."""
    nodes = graph.nodes
    stays = {i for i, node in enumerate(nodes) if node.op_type in KEPT}
    stays |= {
        i
        for i, node in enumerate(nodes)
        if node.op_type in (QUANTIZE, DEQUANTIZE) and not _fits(graph, [node.input[1]], SCALE_ERROR)
    }
    for i, node in enumerate(nodes):
        if node.op_type not in LAYERS:
            continue
        pairs = {nodes.index(p) for name in node.input if (p := graph.behind(name, DEQUANTIZE))}
        if pairs & stays or not _fits(graph, node.input[1:], None):
            stays |= {i, *pairs}
    return frozenset(stays)


def _fits(graph: Graph, names: Iterable[str], error: float | None) -> bool:
    """Whether float16 holds these stored values: none beyond its range, and, where `error` is
    given, none further off than that share of itself."""
    for name in names:
        if name not in graph.stored or graph.stored[name].data_type != TensorProto.FLOAT:
            continue
        exact = numpy_helper.to_array(graph.stored[name]).astype(np.float64)
        if np.any(np.abs(exact) > np.finfo(np.float16).max):
            return False
        rounded = exact.astype(np.float16).astype(np.float64)
        if error is not None and np.any(np.abs(rounded - exact) > error * np.abs(exact)):
            return False
    return True


def _lift(model: onnx.ModelProto) -> None:
    """Rule 3: opset 18 becomes 19 where there is Q/DQ."""
    entry = next(e for e in model.opset_import if e.domain in ("", "ai.onnx"))
    kinds = {node.op_type for node in model.graph.node}
    if entry.version >= OPSET or not kinds & {QUANTIZE, DEQUANTIZE}:
        return
    changed = {
        kind
        for kind in kinds - SAME_IN_19 - {QUANTIZE, DEQUANTIZE}
        if onnx.defs.get_schema(kind, OPSET, "").since_version > entry.version
    }
    if entry.version < OPSET - 1 or changed:
        why = f"opset {entry.version}"
        why += f", and opset {OPSET} has another {min(changed)}" if changed else ""
        raise _refused(why, "half_opset")
    entry.version = OPSET
    model.ir_version = max(model.ir_version, 9)  # ONNX versioning: opset 19 came with IR 9


class _Rewritten:
    """A graph on its way: nodes in order, each with inputs and outputs of its type."""

    def __init__(self, model: onnx.ModelProto, floats: set[str], stays: frozenset[int]) -> None:
        self.graph = model.graph
        self.floats = floats
        self.stays = stays
        self.stored = {w.name: w for w in model.graph.initializer}
        self.type_of = dict.fromkeys((v.name for v in model.graph.input), TensorProto.FLOAT)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, TensorProto] = {}
        self.casts: dict[tuple[str, int], str] = {}

    def write(self) -> None:
        """Rewrites the graph in place."""
        ports = {port.name for port in self.graph.output}
        for i, node in enumerate(list(self.graph.node)):
            kind = TensorProto.FLOAT if i in self.stays else TensorProto.FLOAT16
            self._node(node, kind, ports)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.initializer[:]
        self.graph.initializer.extend(self.weights[name] for name in sorted(self.weights))

    def _node(self, node: onnx.NodeProto, kind: int, ports: set[str]) -> None:
        if node.op_type == "Constant":
            tensor = next((a.t for a in node.attribute if a.name == "value"), None)
            if tensor is not None and tensor.data_type == TensorProto.FLOAT:
                held = TensorProto()
                held.CopyFrom(tensor)
                held.name = node.output[0]
                self.stored[held.name] = held
                return
        if node.op_type == "Cast":
            raise _refused(f"{named(node)} changes types", "half_types")
        always = FLOAT_INPUTS.get(node.op_type, ())
        for at, name in enumerate(node.input):
            wanted = TensorProto.FLOAT if at in always else kind
            node.input[at] = self._input(name, wanted)
        self.nodes.append(node)
        for at, name in enumerate(node.output):
            if name not in self.floats:
                continue
            if name in ports and kind == TensorProto.FLOAT16:
                node.output[at] = f"{name}.half"
                self.type_of[f"{name}.half"] = kind
                cast = helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT)
                cast.name = f"{name}.cast"
                self.nodes.append(cast)
                self.type_of[name] = TensorProto.FLOAT
                self.casts[name, kind] = f"{name}.half"  # who reads it within the network
            else:
                self.type_of[name] = kind

    def _input(self, name: str, wanted: int) -> str:
        """The name under which a value is there in the wanted type."""
        if name in self.stored:
            return self._weight(name, wanted)
        if name not in self.floats or self.type_of.get(name, wanted) == wanted:
            return name
        if (name, wanted) not in self.casts:
            there = f"{name}.{_SHORT[wanted]}"
            cast = helper.make_node("Cast", [name], [there], to=wanted, name=f"{there}.cast")
            self.nodes.append(cast)
            self.casts[name, wanted] = there
        return self.casts[name, wanted]

    def _weight(self, name: str, wanted: int) -> str:
        tensor = self.stored[name]
        if tensor.data_type != TensorProto.FLOAT or wanted == TensorProto.FLOAT:
            self.weights[name] = tensor
            return name
        there = f"{name}.half"
        if there not in self.weights:
            rounded = numpy_helper.to_array(tensor).astype(np.float16)
            self.weights[there] = numpy_helper.from_array(rounded, there)
        return there


def _refused(why: str, code: str) -> BundleRefused:
    return BundleRefused(
        f"this network cannot be written in float16: {why}",
        code=code,
        remedy="Export it again with opset 18 or 19 and float32 throughout, or build the engine "
        "with --float32.",
    )
