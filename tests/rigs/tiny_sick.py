"""The tiny bundle of version 3 whose network of lungs also says where they are diseased, by hand:
emphysema below -930 HU, none below -720, ground glass below -370, consolidated above."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np

from appliance.bundle import archive, manifest
from appliance.bundle.manifest import MANIFEST

LEVELS = (0.05, 0.2, 0.45)
"""Where one class ends and the next begins, as shares of the window from -1000 to 400 HU."""
SLOPES = {"emphysema": 0.0, "none": 20.0, "ground_glass": 40.0, "consolidated": 60.0}
"""Of the lines that are the logits of each class, from the darkest on; the highest line wins."""


def with_disease(packed: bytes, diffuse_share: float) -> bytes:
    """A packed bundle of version 3 -> the same, named `tiny-sick`, with a head of disease."""
    entries = dict(archive.read(packed))
    said = json.loads(entries[MANIFEST])
    network = said["networks"]["segment"]
    model = _with_classes(entries[network["file"]])
    entries[network["file"]] = model
    network["digest"] = hashlib.sha256(model).hexdigest()
    network["outputs"].append({"name": "disease", "shape": [1, 4, -1, -1, -1], "dtype": "float32"})
    (case,) = (g for g in said["goldens"] if g["network"] == "segment")
    entries[case["file"]] = _golden(model)
    case["digest"] = hashlib.sha256(entries[case["file"]]).hexdigest()
    said["name"] = "tiny-sick"
    said["line"]["disease"] = {"output": "disease", "diffuse_share": diffuse_share}
    entries[MANIFEST] = manifest.write(manifest.read(json.dumps(said).encode()))
    return archive.write(entries)


def _with_classes(lungs: bytes) -> bytes:
    """The network with one more output, that of the four classes."""
    import onnx  # noqa: PLC0415 - only who asks for a bundle pays for onnx
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    slopes = list(SLOPES.values())
    starts = [0.0]  # each line meets the one before it where its class begins
    for before, slope, level in zip(slopes[:-1], slopes[1:], LEVELS, strict=True):
        starts.append(starts[-1] + (before - slope) * level)
    order = [list(SLOPES).index(n) for n in ("none", "consolidated", "ground_glass", "emphysema")]
    model = onnx.load_model_from_string(lungs)
    for name, values, shape in (
        ("slopes", slopes, (4, 1, 1, 1, 1)),
        ("starts", starts, (4,)),
    ):
        array = np.array([values[i] for i in order], np.float32).reshape(shape)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node.append(helper.make_node("Conv", ["image", "slopes", "starts"], ["disease"]))
    model.graph.output.append(
        helper.make_tensor_value_info("disease", TensorProto.FLOAT, [1, 4, "z", "y", "x"])
    )
    return bytes(model.SerializeToString())


def _golden(model: bytes) -> bytes:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(9).random((1, 1, 16, 16, 16), dtype=np.float32)
    names = [output.name for output in session.get_outputs()]
    case = io.BytesIO()
    values = dict(zip(names, session.run(None, {"image": image}), strict=True))
    np.savez_compressed(case, input=image, **values)
    return case.getvalue()
