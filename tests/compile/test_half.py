"""A network in float16: ports as before, Q/DQ still INT8, sums in float32; and what it costs."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.bundle import golden, trust
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused
from compile import engine, tensorrt
from compile.half import half, lowered
from compile.lint import lint

BUNDLES = sorted(
    (Path(__file__).parents[2] / "appliance" / "factory" / "bundles").glob("*.scanside")
)
PARITY = 0.4
"""Largest difference of float16 from float32 over the golden cases of the factory bundles, in
logits, with every operator's result rounded: 0.394 in the classes of disease of `segment`, whose
logits reach 22.0."""


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda path: path.stem)
def factory(request) -> Loaded:
    return trust.check(request.param.read_bytes())


def run(data: bytes, image: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})


def types(data: bytes) -> dict[str, int]:
    """Tensor -> its type, as onnx infers it."""
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data), strict_mode=True)
    graph = model.graph
    found = {w.name: w.data_type for w in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        found[value.name] = value.type.tensor_type.elem_type
    return found


def test_the_networks_of_a_factory_bundle_agree_with_themselves_in_float16(factory):
    for case, data in factory.goldens:
        recorded = golden.arrays(case.file, data)
        lower = half(factory.networks[case.network])
        ports = [p.name for p in onnx.load_model_from_string(lower).graph.output]
        for name, got in zip(ports, run(lower, recorded[golden.INPUT]), strict=True):
            assert got.dtype == np.float32
            assert np.abs(got - recorded[name]).max() < PARITY
        assert half(factory.networks[case.network]) == lower


def test_what_is_not_int8_is_float16_and_what_adds_up_is_float32(factory):
    for role, data in factory.networks.items():
        lower = half(data)
        model, known = onnx.load_model_from_string(lower), types(lower)
        before = onnx.load_model_from_string(data).graph
        assert [p.name for p in model.graph.input] == [p.name for p in before.input]
        assert [p.name for p in model.graph.output] == [p.name for p in before.output]
        network = next(n for r, n in factory.manifest.networks.items() if r == role)
        assert not [f for f in lint(lower, network, role) if f.severity == "error"]
        for node in model.graph.node:
            if node.op_type in ("Conv", "Gemm", "ConvTranspose"):
                assert {known[name] for name in node.input} == {TensorProto.FLOAT16}
            if node.op_type == "DequantizeLinear":
                assert known[node.input[0]] == TensorProto.INT8
                assert known[node.output[0]] == TensorProto.FLOAT16
            if node.op_type in ("ReduceMean", "Softmax", "Exp"):
                assert known[node.output[0]] == TensorProto.FLOAT


@pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed (pip install 'scanside[trt-rtx]')",
)
def test_nvidias_parser_and_builder_take_every_factory_network_in_float16(factory):
    rtx = tensorrt.load("tensorrt_rtx")
    for role, network in factory.manifest.networks.items():
        shapes = engine.profile(role, network, factory.manifest)
        lower = half(factory.networks[role])
        made = tensorrt.build(rtx, role, network, lower, shapes, architecture="sm_86")
        assert made.data


def test_float16_is_taken_only_where_the_golden_cases_hold_in_it(tiny_bundle):
    loaded = trust.check(tiny_bundle.read_bytes())
    chosen = lowered(loaded)
    assert set(chosen) == set(loaded.manifest.networks)
    strict = tuple((case.model_copy(update={"atol": 1e-9}), data) for case, data in loaded.goldens)
    wide = tuple((case.model_copy(update={"atol": 1.0}), data) for case, data in loaded.goldens)
    for goldens, expected in ((strict, "float32"), (wide, "float16"), ((), "float32")):
        for role, one in lowered(replace(loaded, goldens=goldens)).items():
            assert one.types == expected
            assert (one.data == loaded.networks[role]) == (expected == "float32")
            assert one.why


def network(nodes, weights: dict[str, np.ndarray], opset: int = 18) -> bytes:
    """image [1, 1, 4, 4] -> out."""
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 1, 4, 4]), ("out", list("abcd")))
    ]
    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], held)
    imports = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString())


IMAGE = np.random.default_rng(0).normal(size=(1, 1, 4, 4)).astype(np.float32)


def quantised(scale: float) -> bytes:
    weights = {
        "w": np.array([[[[100]]]], np.int8), "scale": np.array([scale], np.float32),
        "zero": np.array([0], np.int8), "s": np.float32(0.02), "z": np.int8(0),
    }  # fmt: skip
    return network(
        [
            helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"], name="q"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], name="dq"),
            helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["wd"], axis=0, name="wd"),
            helper.make_node("Conv", ["dq", "wd"], ["out"], name="conv"),
        ],
        weights,
    )


@pytest.mark.parametrize(("scale", "kept"), [(0.0125, False), (3.3e-7, True)])
def test_a_scale_that_float16_would_spoil_keeps_its_layer_and_both_pairs_in_float32(scale, kept):
    lower = half(quantised(scale))
    known = types(lower)
    wanted = TensorProto.FLOAT if kept else TensorProto.FLOAT16
    model = onnx.load_model_from_string(lower)
    nodes = {node.name: node for node in model.graph.node}
    assert {known[name] for name in nodes["conv"].input} == {wanted}
    assert nodes["conv"].input[0] == nodes["dq"].output[0]  # nothing between Q/DQ and its layer
    assert model.opset_import[0].version == 19
    (before,), (after,) = run(quantised(scale), IMAGE), run(lower, IMAGE)
    assert np.abs(before - after).max() <= 0.03 * np.abs(before).max()


def test_a_weight_beyond_float16_stays_float32():
    nodes = [helper.make_node("Conv", ["image", "w"], ["out"], name="conv")]
    data = network(nodes, {"w": np.full((1, 1, 1, 1), 1e6, np.float32)})
    (before,), (after,) = run(data, IMAGE), run(half(data), IMAGE)
    assert np.array_equal(before, after)


def test_a_value_that_is_an_output_and_is_read_on_keeps_both_its_types():
    nodes = [
        helper.make_node("Relu", ["image"], ["middle"]),
        helper.make_node("Exp", ["middle"], ["grown"]),
        helper.make_node("Add", ["grown", "middle"], ["out"]),
    ]
    model = onnx.load_model_from_string(network(nodes, {}))
    model.graph.output.append(
        helper.make_tensor_value_info("middle", TensorProto.FLOAT, list("abcd"))
    )
    data = model.SerializeToString()
    before, after = run(data, IMAGE), run(half(data), IMAGE)
    for one, other in zip(before, after, strict=True):
        assert other.dtype == np.float32
        assert np.allclose(one, other, rtol=2e-3)


def test_what_cannot_be_lifted_or_changes_types_itself_is_refused_by_code():
    with pytest.raises(BundleRefused) as error:
        half(network([helper.make_node("Cast", ["image"], ["out"], to=1)], {}))
    assert error.value.code == "half_types"
    old = onnx.load_model_from_string(quantised(0.01))
    old.opset_import[0].version = 17
    with pytest.raises(BundleRefused, match="opset 17") as error:
        half(old.SerializeToString())
    assert error.value.code == "half_opset"
    once = half(quantised(0.01))
    with pytest.raises(BundleRefused):
        half(once)
