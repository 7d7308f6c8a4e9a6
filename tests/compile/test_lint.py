"""A well quantised network passes the linter; a planted fault is named by its node and rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.bundle.manifest import Network, Port
from compile.__main__ import main
from compile.lint import ADVICE, ERRORS, lint

CHANNELS = 16
SHAPE = (1, CHANNELS, 8, 8)
NETWORK = Network(
    file="net.onnx",
    digest="0" * 64,
    precision="int8",
    inputs=(Port(name="image", shape=SHAPE),),
    outputs=(Port(name="heat", shape=SHAPE),),
    preprocess=(),
)


class Builder:
    """relu(second(first(x)) + first(x)) and a float head, quantised by the rules."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[TensorProto] = []
        self.rng = np.random.default_rng(0)

    def store(self, name: str, array: np.ndarray) -> str:
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def pair(self, name: str) -> str:
        """The name behind Q and DQ."""
        scale = self.store(f"{name}_scale", np.float32(0.05))
        zero = self.store(f"{name}_zero", np.int8(0))
        for kind, source, target in (
            ("QuantizeLinear", name, f"{name}_q"),
            ("DequantizeLinear", f"{name}_q", f"{name}_dq"),
        ):
            node = helper.make_node(kind, [source, scale, zero], [target], name=f"{kind}_{name}")
            self.nodes.append(node)
        return f"{name}_dq"

    def conv(self, name: str, image: str, *, quantised: bool = True) -> str:
        shape = (CHANNELS, CHANNELS, 3, 3)
        bias = self.store(f"{name}_bias", np.zeros(CHANNELS, np.float32))
        if quantised:
            values = self.store(f"{name}_w", self.rng.integers(-127, 127, shape).astype(np.int8))
            scale = self.store(f"{name}_w_scale", np.full(CHANNELS, 0.01, np.float32))
            zero = self.store(f"{name}_w_zero", np.zeros(CHANNELS, np.int8))
            weight = f"{name}_w_dq"
            self.nodes.append(
                helper.make_node(
                    "DequantizeLinear", [values, scale, zero], [weight], name=f"dq_{name}", axis=0
                )
            )
        else:
            weight = self.store(f"{name}_w", self.rng.normal(size=shape).astype(np.float32))
        self.nodes.append(
            helper.make_node("Conv", [image, weight, bias], [name], name=name, pads=[1] * 4)
        )
        return name

    def model(self) -> onnx.ModelProto:
        image = self.pair("image")
        first = self.pair(self.conv("first", image))
        second = self.conv("second", first)
        self.nodes.append(helper.make_node("Add", [second, first], ["sum"], name="sum"))
        self.nodes.append(helper.make_node("Relu", ["sum"], ["relu"], name="relu"))
        self.conv("heat", self.pair("relu"), quantised=False)
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
            [helper.make_tensor_value_info("heat", TensorProto.FLOAT, SHAPE)],
            self.stored,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def put(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Another stored value under the same name."""
    for stored in model.graph.initializer:
        if stored.name == name:
            stored.CopyFrom(numpy_helper.from_array(array, name))


def both_branches(model: onnx.ModelProto) -> None:
    builder = Builder()
    node(model, "sum").input[0] = builder.pair("second")
    at = [n.name for n in model.graph.node].index("sum")
    later = list(model.graph.node)[at:]
    del model.graph.node[at:]
    model.graph.node.extend([*builder.nodes, *later])
    model.graph.initializer.extend(builder.stored)


def quantised_bias(model: onnx.ModelProto) -> None:
    put(model, "first_bias", np.zeros(CHANNELS, np.int32))
    model.graph.initializer.append(
        numpy_helper.from_array(np.full(CHANNELS, 5e-4, np.float32), "b_scale")
    )
    pair = helper.make_node("DequantizeLinear", ["first_bias", "b_scale"], ["b_dq"], name="dq_bias")
    model.graph.node.insert(0, pair)
    node(model, "first").input[2] = "b_dq"


def asymmetric(model: onnx.ModelProto) -> None:
    put(model, "image_zero", np.int8(-128))


def unsigned(model: onnx.ModelProto) -> None:
    put(model, "image_zero", np.uint8(0))


def per_tensor_weight(model: onnx.ModelProto) -> None:
    put(model, "first_w_scale", np.float32(0.01))
    put(model, "first_w_zero", np.int8(0))


def wrong_axis(model: onnx.ModelProto) -> None:
    node(model, "dq_first").attribute[0].i = 1


def float_weight_behind_a_pair(model: onnx.ModelProto) -> None:
    put(model, "first_w", np.zeros((CHANNELS, CHANNELS, 3, 3), np.float32))


def quantised_output(model: onnx.ModelProto) -> None:
    builder = Builder()
    builder.pair("heat")
    model.graph.node.extend(builder.nodes)
    model.graph.initializer.extend(builder.stored)
    model.graph.output[0].name = "heat_dq"


def zero_scale(model: onnx.ModelProto) -> None:
    put(model, "relu_scale", np.float32(0))


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 11


def foreign_operators(model: onnx.ModelProto) -> None:
    node(model, "relu").domain = "com.microsoft"


def free_axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "y"


def transposed_per_channel(model: onnx.ModelProto) -> None:
    node(model, "first").op_type = "ConvTranspose"


def without_pairs(model: onnx.ModelProto) -> None:
    node(model, "sum").input[1] = "first"
    for layer, image in (("first", "image"), ("second", "first"), ("heat", "relu")):
        node(model, layer).input[0] = image
        put(model, f"{layer}_w", np.zeros((CHANNELS, CHANNELS, 3, 3), np.float32))
        node(model, layer).input[1] = f"{layer}_w"
    kept = [n for n in model.graph.node if "quantize" not in n.op_type.lower()]
    del model.graph.node[:]
    model.graph.node.extend(kept)


FAULTS: dict[Callable[[onnx.ModelProto], None], tuple[str, str]] = {
    both_branches: ("residual_add", "sum"),
    quantised_bias: ("float_bias", "first"),
    asymmetric: ("zero_point", "QuantizeLinear_image"),
    unsigned: ("int8", "QuantizeLinear_image"),
    per_tensor_weight: ("per_channel", "first"),
    wrong_axis: ("per_channel", "first"),
    float_weight_behind_a_pair: ("stored_int8", "first"),
    quantised_output: ("float_output", "heat_dq"),
    zero_scale: ("scale", "QuantizeLinear_relu"),
    old_opset: ("opset", "the file"),
    foreign_operators: ("opset", "relu"),
    free_axis: ("axes", "image"),
    transposed_per_channel: ("conv_transpose", "first"),
    without_pairs: ("precision", "the file"),
}


def test_a_well_quantised_network_has_no_finding() -> None:
    model = Builder().model()
    onnx.checker.check_model(model, full_check=True)
    assert lint(model.SerializeToString(), NETWORK, "propose") == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_by_its_node_and_rule(
    fault: Callable[[onnx.ModelProto], None],
) -> None:
    model = Builder().model()
    fault(model)
    found = lint(model.SerializeToString(), NETWORK, "propose")
    assert FAULTS[fault] in [(f.rule, f.node) for f in found]
    assert all(f.remedy and f.severity == "error" and f.network == "propose" for f in found)


def test_few_channels_are_advice() -> None:
    model = Builder().model()
    put(model, "first_w", np.zeros((CHANNELS, 1, 3, 3), np.int8))
    (found,) = lint(model.SerializeToString(), NETWORK, "propose")
    assert (found.rule, found.node, found.severity) == ("few_channels", "first", "advice")
    assert found.one_line().startswith("advice propose: first: INT8 with 1 -> 16 channels")


def test_int8_weights_on_a_float_input_are_advice() -> None:
    model = Builder().model()
    node(model, "second").input[0] = "first"
    found = lint(model.SerializeToString(), NETWORK, "propose")
    assert [(f.rule, f.node) for f in found] == [("both_or_none", "second")]


def test_every_rule_has_a_planted_fault() -> None:
    tested = {rule for rule, _ in FAULTS.values()} | {"few_channels", "both_or_none"}
    assert {rule.__name__ for rule in (*ERRORS, *ADVICE)} <= tested


def test_the_factory_bundles_have_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(__file__).parents[2] / "appliance" / "factory" / "bundles"
    bundles = sorted(folder.glob("*.scanside"))
    assert bundles
    for bundle in bundles:
        assert main(["lint", str(bundle)]) == 0
        assert "no error" in capsys.readouterr().out
