"""Tuning with fake quantisation: the same answers as the INT8 file, a smaller damage, one graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

from onnx import numpy_helper  # noqa: E402

from compile.lint import ERRORS, Graph  # noqa: E402
from training import qat, quantize  # noqa: E402
from training.networks import CubeNet, LungNet, PatchNet, ProposeNet  # noqa: E402
from training.onnx_file import exported, exported_ports  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
WIDTHS = (16, 16, 24, 24)


def exact(model: onnx.ModelProto, image: np.ndarray) -> list[np.ndarray]:
    """What the file says, node by node, without the kernels that a runtime would put together."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(
        None, {"image": image}
    )


def lively(model: torch.nn.Module) -> torch.nn.Module:
    """Weights of one seed; statistics and scales as training leaves them: no two channels alike."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d | torch.nn.Linear):
            layer.reset_parameters()
        if isinstance(layer, torch.nn.Linear):  # else all answers are nearly the same
            torch.nn.init.normal_(layer.weight)
        if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(layer.weight, 0.5, 2.0)
            torch.nn.init.normal_(layer.bias, 0.0, 0.3)
    return model.eval()


def blobs(rng: np.random.Generator, count: int = 16) -> np.ndarray:
    """Patches [count,1,48,48] that differ: a bright spot of any size on noise."""
    y, x = np.mgrid[:48, :48] - 23.5
    size, height = rng.uniform(2, 12, (count, 1, 1)), rng.uniform(0.2, 1, (count, 1, 1))
    spot = np.exp(-(x * x + y * y) / (2 * size**2)) * height
    noisy = spot + rng.uniform(0, 0.2, (count, 48, 48))
    return noisy[:, None].clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def patches() -> tuple[onnx.ModelProto, onnx.ModelProto, list[np.ndarray]]:
    """A patch network, its INT8 version, and images."""
    rng = np.random.default_rng(0)
    images = [blobs(rng) for _ in range(3)]
    plain = exported(lively(PatchNet(WIDTHS)), (48, 48), ["logit"])
    return plain, quantize.quantized(plain, images[:1], "minmax"), images


def answers_as_the_file(plain: onnx.ModelProto, made: onnx.ModelProto, image: np.ndarray) -> None:
    model = qat.Tunable(plain, made)
    with torch.no_grad():
        found = model(torch.from_numpy(image))
        model.rounds = False
        plainly = model(torch.from_numpy(image))
    for got, float_got, wanted, float_wanted in zip(
        found if isinstance(found, tuple) else (found,),
        plainly if isinstance(plainly, tuple) else (plainly,),
        exact(made, image),
        exact(plain, image),
        strict=True,
    ):
        # a value on the edge of two steps may round either way; that is far less than rounding does
        rounding = np.abs(wanted - float_wanted).mean()
        assert np.abs(got.numpy() - wanted).mean() < 0.05 * rounding + 1e-6
        np.testing.assert_allclose(float_got.numpy(), float_wanted, rtol=1e-3, atol=1e-4)
        assert not np.allclose(wanted, float_wanted, atol=1e-6)


def test_it_answers_as_the_int8_file_does(
    patches: tuple[onnx.ModelProto, onnx.ModelProto, list[np.ndarray]],
) -> None:
    plain, made, images = patches
    answers_as_the_file(plain, made, images[2])


@pytest.mark.long
@pytest.mark.parametrize("name", ["cube", "lungs", "proposals"])
def test_it_answers_as_the_int8_file_of_a_3d_network_does(name: str) -> None:
    rng = np.random.default_rng(1)
    if name == "cube":
        image = rng.random((2, 1, 32, 32, 32), dtype=np.float32)
        example = {"image": torch.from_numpy(image)}
        plain = exported_ports(lively(CubeNet((16, 16, 24))), example, ["logit"])
    else:
        image = rng.random((1, 1, 32, 32, 32), dtype=np.float32)
        kind, outputs = {
            "lungs": (LungNet, ["lungs"]),
            "proposals": (ProposeNet, ["heat", "log_diameter"]),
        }[name]
        plain = exported(lively(kind(WIDTHS)), (32, 32, 32), outputs)
    answers_as_the_file(plain, quantize.quantized(plain, [image], "minmax"), image)


def test_written_untuned_it_is_the_file_that_it_came_from(
    patches: tuple[onnx.ModelProto, onnx.ModelProto, list[np.ndarray]],
) -> None:
    plain, made, _ = patches
    written = qat.Tunable(plain, made).written()
    for a, b in zip(made.graph.initializer, written.graph.initializer, strict=True):
        assert (a.name, a.data_type, a.dims) == (b.name, b.data_type, b.dims)
        np.testing.assert_allclose(
            numpy_helper.to_array(a).astype(float),
            numpy_helper.to_array(b).astype(float),
            rtol=1e-6,
        )
    assert [n.SerializeToString() for n in made.graph.node] == [
        n.SerializeToString() for n in written.graph.node
    ]


def test_tuning_brings_the_int8_file_nearer_to_the_float_one_and_breaks_no_rule(
    patches: tuple[onnx.ModelProto, onnx.ModelProto, list[np.ndarray]], tmp_path: Path
) -> None:
    plain, made, images = patches
    poor = onnx.ModelProto()
    poor.CopyFrom(made)
    for stored in poor.graph.initializer:  # a calibration that saw much larger values
        if stored.name.endswith("_scale") and not stored.dims:
            value = numpy_helper.to_array(stored) * np.float32(8.0)
            stored.CopyFrom(numpy_helper.from_array(np.asarray(value), stored.name))

    def draw(rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(blobs(rng))

    tuned = qat.tune(plain, poor, draw, tmp_path, qat.Tuning(steps=30, rate=3e-4, ema=0.8))
    (wanted,) = exact(plain, images[2])

    def damage(model: onnx.ModelProto) -> float:
        return float(np.sqrt(np.mean((exact(model, images[2])[0] - wanted) ** 2)))

    assert damage(tuned) < 0.8 * damage(poor)
    assert [n.op_type for n in tuned.graph.node] == [n.op_type for n in poor.graph.node]
    for rule in ERRORS:
        assert not list(rule(Graph(tuned))), rule.__name__


def test_scales_of_activations_stay_those_of_the_calibration(
    patches: tuple[onnx.ModelProto, onnx.ModelProto, list[np.ndarray]],
) -> None:
    plain, made, images = patches
    model = qat.Tunable(plain, made)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    model(torch.from_numpy(images[0])).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    optimizer.step()
    written = model.written()
    assert quantize.scales(written) == quantize.scales(made)
    stored = {w.name: numpy_helper.to_array(w) for w in written.graph.initializer}
    for name, axis in model.axis.items():
        steps = np.abs(stored[name]).max(tuple(i for i in range(stored[name].ndim) if i != axis))
        assert (steps == qat.STEPS).all()  # each channel uses all of its steps


def test_an_operator_that_is_not_known_and_another_network_are_refused(
    patches: tuple[onnx.ModelProto, onnx.ModelProto, list[np.ndarray]],
) -> None:
    plain, made, _ = patches
    strange = onnx.ModelProto()
    strange.CopyFrom(made)
    next(n for n in strange.graph.node if n.op_type == "Relu").op_type = "Softplus"
    with pytest.raises(ValueError, match="Softplus"):
        qat.Tunable(plain, strange)
    other = onnx.ModelProto()
    other.CopyFrom(plain)
    other.graph.initializer[0].name = "another"
    with pytest.raises(ValueError, match="the float network has no"):
        qat.Tunable(other, made)


def test_tuning_is_worth_it_above_two_thousandths_of_auc() -> None:
    assert qat.worth_it(0.990, 0.9879)
    assert not qat.worth_it(0.990, 0.9881)
    assert not qat.worth_it(0.990, 0.991)
