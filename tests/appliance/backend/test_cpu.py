"""A layer that is quantised to all of 8 bits says what is written, whatever the processor can do.

Sixteen channels of 255 with weights of 127 are the sum at which pairs of products saturate: without
the pin a processor without VNNI makes 8.09 of 16.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.backend import cpu
from appliance.backend.choose import LIBRARIES, Name
from appliance.backend.open import open_backend
from appliance.bundle.manifest import Network, Port
from appliance.records import Tensor
from appliance.runtime import trial

CHANNELS = 16
SHAPE = (1, CHANNELS, 4, 6, 8)


def _saturating() -> bytes:
    """Q/DQ of the input over 0 to 1 in uint8, of the weights over -1 to 1 in int8; all are 1."""
    weights = np.full((8, CHANNELS, 1, 1, 1), 127, np.int8)
    held = {
        "input_scale": np.array(1 / 255, np.float32),
        "input_zero": np.array(0, np.uint8),
        "weights": weights,
        "weight_scale": np.array(1 / 127, np.float32),
        "weight_zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "input_scale", "input_zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "input_scale", "input_zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["sums"], kernel_shape=[1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "saturating",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, (1, 8, *SHAPE[2:]))],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize("library", LIBRARIES)
def test_sums_of_full_range_int8_do_not_saturate(library: Name) -> None:
    pytest.importorskip(library)
    network = Network(
        file="saturating.onnx",
        digest="0" * 64,
        precision="int8",
        inputs=(Port(name="image", dtype="float32", shape=SHAPE),),
        outputs=(Port(name="sums", dtype="float32", shape=(1, 8, *SHAPE[2:])),),
        preprocess=(),
    )
    backend = open_backend(library, {"classify": network}, {"classify": _saturating()}, threads=2)
    image = np.ones(SHAPE, np.float32)
    sums = backend.infer("classify", Tensor(image, SHAPE, None))["sums"]
    assert sums == pytest.approx(np.full_like(sums, CHANNELS), abs=0.01)


def test_what_passed_on_another_kind_of_processor_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openvino")
    keys = set()
    for exact in (True, False):
        monkeypatch.setattr(cpu, "adds_int8_in_32_bits", lambda exact=exact: exact)
        keys.add(trial.key("openvino"))
    assert len(keys) == 2
