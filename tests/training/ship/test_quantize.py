"""INT8 networks: where Q/DQ stands and where not, what it costs, and what is written beside."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from onnx import TensorProto, numpy_helper  # noqa: E402

from appliance.backend.open import LOADERS  # noqa: E402
from appliance.bundle.manifest import Network  # noqa: E402
from training.networks import DrawnMassNet, PatchNet, ProposeNet, SickLungNet  # noqa: E402
from training.recipes.lung_nodule import bundle  # noqa: E402
from training.ship import quantize  # noqa: E402
from training.ship.onnx_file import exported  # noqa: E402

WIDTHS = (16, 16, 24, 24)
CASES = {
    "segment": (SickLungNet, (32, 32, 32), (1, 1, 32, 32, 48)),
    "propose": (ProposeNet, (32, 32, 32), (1, 1, 32, 32, 48)),
    "mass": (DrawnMassNet, (32, 32, 32), (1, 1, 32, 32, 48)),
    "classify": (PatchNet, (48, 48), (6, 1, 48, 48)),
}
pytestmark = pytest.mark.filterwarnings("ignore")


def entry_of(role: bundle.Role) -> Network:
    """Masses and disease are drawn."""
    return bundle.network(role, "0" * 64, drawn=role in bundle.DRAWN)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(role, marks=() if role in ("segment", "classify") else pytest.mark.long)
        for role in CASES
    ],
)
def case(request: pytest.FixtureRequest) -> tuple[str, object, list[object]]:
    """A network of random weights, with images."""
    network, side, shape = CASES[request.param]
    torch.manual_seed(0)
    model = network(WIDTHS).eval()
    names = [port.name for port in entry_of(request.param).outputs]
    rng = np.random.default_rng(0)
    images = [rng.random(shape, dtype=np.float32) for _ in range(3)]
    return request.param, exported(model, side, names), images


def made_by(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


@pytest.mark.long
def test_zero_points_are_0_weights_int8_per_channel_and_biases_float(case: tuple) -> None:
    _, model, images = case
    made = quantize.quantized(model, images, "minmax")
    stored = {w.name: w for w in made.graph.initializer}
    makers = made_by(made)
    pairs = [n for n in made.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = stored[node.input[2]]
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
    outputs = quantize.output_layers(model)
    layers = [n for n in made.graph.node if n.op_type == "Conv" and n.name not in outputs]
    for layer in layers:
        weight = makers[layer.input[1]]
        assert weight.op_type == "DequantizeLinear"
        values = numpy_helper.to_array(stored[weight.input[0]])
        assert values.dtype == np.int8
        assert numpy_helper.to_array(stored[weight.input[1]]).shape == (values.shape[0],)
        assert [a.i for a in weight.attribute if a.name == "axis"] == [0]
        assert makers[layer.input[0]].op_type == "DequantizeLinear"
        if len(layer.input) == 3:
            assert stored[layer.input[2]].data_type == TensorProto.FLOAT


def test_only_the_residual_branch_of_an_add_carries_q_dq(case: tuple) -> None:
    role, model, images = case
    made = quantize.quantized(model, images, "minmax")
    makers = made_by(made)
    adds = [n for n in made.graph.node if n.op_type == "Add"]
    assert adds
    fused = 0
    for add in adds:
        kinds = [makers[name].op_type for name in add.input]
        if kinds == ["DequantizeLinear"] * 2:  # nothing here that an Add could fuse with
            sources = [makers[makers[name].input[0]].input[0] for name in add.input]
            assert all(makers[name].op_type != "Conv" for name in sources)
        else:
            assert sorted(kinds) == ["Conv", "DequantizeLinear"]
            fused += 1
    assert fused or role == "segment"  # whose pyramid adds no convolution


def test_a_relu_reads_its_layer_as_it_is_so_that_a_value_is_rounded_once(case: tuple) -> None:
    _, model, images = case
    made = quantize.quantized(model, images, "minmax")
    makers = made_by(made)
    behind = [makers[n.input[0]].op_type for n in made.graph.node if n.op_type == "Relu"]
    assert behind
    assert set(behind) <= {"Conv", "Add"}


def test_what_writes_an_output_stays_float(case: tuple) -> None:
    _, model, images = case
    made = quantize.quantized(model, images, "minmax")
    makers = made_by(made)
    for name in quantize.output_layers(model):
        (layer,) = (n for n in made.graph.node if n.name == name)
        assert layer.input[1] not in makers  # a stored float tensor
    for port in made.graph.output:
        assert makers[port.name].op_type != "DequantizeLinear"


def test_it_is_a_quarter_of_the_size_and_answers_nearly_alike_in_both_backends(
    case: tuple,
) -> None:
    role, model, images = case
    made = quantize.quantized(model, images, "minmax")
    entry = entry_of(role)
    name = entry.outputs[0].name

    def answer(loader: str, file: onnx.ModelProto) -> np.ndarray:
        run = LOADERS[loader]({role: entry}, {role: file.SerializeToString()}, 1)[role]
        return np.array(run(images[0])[name])

    plain = answer("onnxruntime", model)
    spread = plain.std() + 1e-3
    for loader in ("onnxruntime", "openvino"):
        assert np.abs(answer(loader, made) - plain).max() < spread, loader
    assert not np.array_equal(answer("onnxruntime", made), plain)
    assert quantize.weight_bytes(made) < 0.5 * quantize.weight_bytes(model)


@pytest.mark.long
def test_a_layer_that_is_kept_float_is_float_and_damage_is_measured_layer_by_layer() -> None:
    torch.manual_seed(0)
    model = exported(PatchNet(WIDTHS).eval(), (48, 48), ["logit"])
    image = np.random.default_rng(0).random((4, 1, 48, 48), dtype=np.float32)
    first = next(n.name for n in model.graph.node if n.op_type == "Conv")
    made = quantize.quantized(model, [image], "minmax", keep_float=[first])
    (layer,) = (n for n in made.graph.node if n.name == first)
    assert layer.input[1] not in made_by(made)

    def float_weights(candidate: onnx.ModelProto) -> float:
        return float(sum(w.data_type == TensorProto.INT8 for w in candidate.graph.initializer))

    rows = quantize.sensitivity(model, [image], "minmax", float_weights)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert len(rows) == len(convolutions)
    assert sum(row.weight_bytes for row in rows) < quantize.weight_bytes(model) / 4


@pytest.mark.long
def test_the_method_with_the_least_damage_is_chosen() -> None:
    torch.manual_seed(0)
    model = exported(PatchNet(WIDTHS).eval(), (48, 48), ["logit"])
    image = np.random.default_rng(0).random((4, 1, 48, 48), dtype=np.float32)
    harm = iter([0.3, 0.1])
    chosen = quantize.choose(model, [image], lambda _: next(harm))
    assert chosen.method == "percentile"
    assert chosen.damage == {"minmax": 0.3, "percentile": 0.1}


@pytest.mark.long
def test_an_empty_calibration_set_and_a_network_without_layers_are_refused() -> None:
    model = exported(PatchNet(WIDTHS).eval(), (48, 48), ["logit"])
    with pytest.raises(ValueError, match="calibration set is empty"):
        quantize.quantized(model, [], "minmax")
    layers = [n.name for n in model.graph.node if n.op_type in quantize.LAYERS]
    with pytest.raises(ValueError, match="no layer is left"):
        quantize.quantized(model, [np.zeros((1, 1, 48, 48), np.float32)], "minmax", layers)


def test_the_digest_tells_calibration_sets_apart() -> None:
    one = np.zeros((1, 1, 4, 4), np.float32)
    assert quantize.digest([one]) == quantize.digest([one.copy()])
    assert quantize.digest([one]) != quantize.digest([one.reshape(1, 1, 2, 8)])
