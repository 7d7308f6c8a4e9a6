"""A network without its Q/DQ pairs is the same network, unrounded."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.bundle import trust
from appliance.errors import BundleRefused
from compile.lint import DEQUANTIZE, QUANTIZE
from compile.unquantized import unquantized

BUNDLES = sorted(
    (Path(__file__).parents[2] / "appliance" / "factory" / "bundles").glob("*.scanside")
)
SHARE = 0.05
"""Of the largest value of an output: what rounding to INT8 may have cost a shipped network."""


def run(data: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    # in float as it is written: INT8 products saturate on a processor without VNNI
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))


def kinds(data: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(data).graph.node}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.stem)
def test_a_shipped_network_computes_nearly_the_same_in_float(bundle: Path) -> None:
    loaded = trust.check(bundle.read_bytes())
    for case, packed in loaded.goldens:
        shipped = loaded.networks[case.network]
        int8 = loaded.manifest.networks[case.network].precision == "int8"
        plain = unquantized(shipped)
        assert {one in kinds(shipped) for one in (QUANTIZE, DEQUANTIZE)} == {int8}
        assert not {QUANTIZE, DEQUANTIZE} & kinds(plain)
        assert unquantized(shipped) == plain
        assert unquantized(plain) == plain
        image = np.load(io.BytesIO(packed))["input"]
        rounded, exact = run(shipped, image), run(plain, image)
        assert set(exact) == set(rounded)
        for name, values in exact.items():
            apart = np.abs(values - rounded[name]).max()
            assert bool(apart > 0) == int8
            assert apart < SHARE * np.abs(values).max()


def pair(name: str, scale: str, zero: str = "zero") -> list[onnx.NodeProto]:
    return [
        helper.make_node(QUANTIZE, [name, scale, zero], [f"{name}.q"], name=f"q_{name}"),
        helper.make_node(DEQUANTIZE, [f"{name}.q", scale, zero], [f"{name}.dq"], name=f"dq_{name}"),
    ]


WEIGHT = np.array([[[[3]]], [[[-100]]]], np.int8)
SCALES = np.array([0.5, 0.01], np.float32)


def convolution(nodes: list[onnx.NodeProto], output: str, **stored: np.ndarray) -> bytes:
    """image -> a 1 x 1 convolution with two channels, and whatever stands around it."""
    values = {
        "w.q": WEIGHT, "w.scale": SCALES, "w.zero": np.zeros(2, np.int8),
        "scale": np.float32(0.1), "zero": np.int8(0), **stored,
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node(DEQUANTIZE, ["w.q", "w.scale", "w.zero"], ["w"], name="dq_w", axis=0),
            *nodes,
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 2, 2, 2])],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items()],
    )
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())


IMAGE = np.array([[[[0.26, 100.0], [-0.31, 0.0]]]], np.float32)
EXACT = np.concatenate([IMAGE * 1.5, IMAGE * -1.0], axis=1)
"""3 * 0.5 and -100 * 0.01."""


def test_weights_are_those_of_int8_and_activations_are_neither_rounded_nor_clipped() -> None:
    nodes = [*pair("image", "scale"), helper.make_node("Conv", ["image.dq", "w"], ["out"])]
    data = convolution(nodes, "out")
    assert np.abs(run(data, IMAGE)["out"] - EXACT).max() > 100  # 12.7 is the most that is held
    np.testing.assert_allclose(run(unquantized(data), IMAGE)["out"], EXACT, rtol=1e-6)


def test_an_output_that_ends_in_a_pair_keeps_its_name() -> None:
    nodes = [helper.make_node("Conv", ["image", "w"], ["conv"]), *pair("conv", "scale")]
    data = convolution(nodes, "conv.dq")
    np.testing.assert_allclose(run(unquantized(data), IMAGE)["conv.dq"], EXACT, rtol=1e-6)


LONE = {
    "q_image": (
        [
            pair("image", "scale")[0],
            helper.make_node("Cast", ["image.q"], ["image.f"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["image.f", "w"], ["out"]),
        ],
        {},
    ),
    "dq_w": ([helper.make_node("Conv", ["image", "w"], ["out"])], {"w.zero": np.int8([0, 1])}),
}


@pytest.mark.parametrize("node", LONE)
def test_what_is_no_symmetric_pair_is_refused_by_its_name(node: str) -> None:
    nodes, stored = LONE[node]
    with pytest.raises(BundleRefused, match=f"^{node} cannot be taken out") as error:
        unquantized(convolution(nodes, "out", **stored))
    assert error.value.code == "unquantized"
