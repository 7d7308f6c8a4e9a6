"""What is changed in a network for OpenVINO says the same as the network that onnxruntime reads."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.backend import openvino_graph
from appliance.backend.cpu import Outputs, openvino_core
from appliance.backend.open import open_backend
from appliance.backend.protocol import highest
from appliance.bundle.manifest import Network, Port
from appliance.errors import Poisoned
from appliance.records import Tensor

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(7)
SHAPE = (1, 1, 6, 10, 14)


def network() -> Network:
    return Network(
        file="model.onnx",
        digest="0" * 64,
        precision="fp32",
        inputs=(Port(name="image", shape=(1, 1, -1, -1, -1)),),
        outputs=tuple(Port(name=n, shape=(1, -1, -1, -1, -1)) for n in ("lungs", "classes")),
        preprocess=(),
    )


def heads(*, stride: int = 2, kernel: int = 2, bias: float = 0.3) -> bytes:
    """image -> features of half the size -> lungs [1, 1, ...] and classes [1, 4, ...]."""
    weights = {
        "stem": RNG.normal(size=(8, 1, 2, 2, 2)),
        "one": RNG.normal(size=(8, 1, *[kernel] * 3)),
        "four": RNG.normal(size=(8, 4, *[kernel] * 3)),
        "one.bias": np.full(1, bias),
        "four.bias": np.arange(4) / 10,
    }
    step = {"strides": [stride] * 3}
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["half"], strides=[2] * 3),
        helper.make_node("Relu", ["half"], ["features"]),
        helper.make_node("ConvTranspose", ["features", "one", "one.bias"], ["lungs"], **step),
        helper.make_node("ConvTranspose", ["features", "four", "four.bias"], ["classes"], **step),
    ]
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, f"{n}z", f"{n}y", f"{n}x"])
        for n, c in (("image", 1), ("lungs", 1), ("classes", 4))
    ]
    held = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], held)
    opset = helper.make_opsetid("", 18)
    whole = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return bytes(whole.SerializeToString())


def both(onnx: bytes) -> tuple[Outputs, Outputs]:
    image = RNG.random(SHAPE, np.float32)
    found = []
    for name in ("openvino", "onnxruntime"):
        backend = open_backend(name, {"segment": network()}, {"segment": onnx}, threads=1)
        found.append(backend.infer("segment", Tensor(image, SHAPE, None)))
        backend.close()
    return found[0], found[1]


def test_outputs_are_those_of_the_network_as_it_was_read():
    ours, theirs = both(heads())
    assert list(ours) == list(theirs) == ["lungs", "classes"]
    for name in ours:
        assert ours.shape(name) == ours[name].shape == theirs[name].shape
        assert np.allclose(ours[name], theirs[name], atol=1e-5)


def test_the_highest_channel_of_some_voxels_is_that_of_the_whole():
    voxels = RNG.random((5, 10, 13)) < 0.3
    for ours in both(heads()):
        some = ours.highest("classes", voxels)
        assert set(np.unique(some)) == {0, 1, 2, 3}
        assert np.array_equal(some, highest(ours["classes"], voxels))


def test_of_several_channels_the_network_ends_at_the_features():
    model = openvino_core().read_model(heads())
    cut = openvino_graph.changed(model)
    assert {name: (one.channels, one.side) for name, one in cut.items()} == {"classes": (4, 2)}
    assert "ConvolutionBackpropData" not in {n.get_type_name() for n in model.get_ops()}


@pytest.mark.parametrize(("stride", "kernel"), [(2, 3), (1, 1), (2, 4)])
def test_blocks_that_overlap_stay_as_they_are(stride, kernel):
    onnx = heads(stride=stride, kernel=kernel)
    if kernel != stride:
        model = openvino_core().read_model(onnx)
        assert openvino_graph.changed(model) == {}
    ours, theirs = both(onnx)
    assert all(np.allclose(ours[name], theirs[name], atol=1e-4) for name in theirs)


def test_what_is_made_of_features_is_finite_too():
    with pytest.raises(Poisoned, match="'lungs' is not finite"):
        both(heads(bias=np.inf))


def test_a_network_that_was_begun_is_waited_for_and_may_be_left():
    onnx, image = heads(), RNG.random(SHAPE, np.float32)
    for name in ("openvino", "onnxruntime"):
        backend = open_backend(name, {"segment": network()}, {"segment": onnx}, threads=1)
        backend.begin("segment", Tensor(RNG.random(SHAPE, np.float32), SHAPE, None))  # left
        wait = backend.begin("segment", Tensor(image, SHAPE, None))
        found = wait()["lungs"]
        again = backend.infer("segment", Tensor(image, SHAPE, None))["lungs"]
        assert np.array_equal(found, again)
        backend.close()
