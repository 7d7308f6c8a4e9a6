"""Bundles for whole devices: the tiny one with a lung network that leaves the skin out, so that the
phantom's lungs are covered. The usual one takes the name of the factory's, so that no other bundle
answers for chest CT.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.bundle import archive
from appliance.bundle.manifest import MANIFEST, SIGNATURE

BUNDLE = "lung-nodule"


KEY = Ed25519PrivateKey.from_private_bytes(b"tests of the appliance, no more.")
"""Of the tests, for development: `bundle add --allow-development`."""


def signed(bundle: bytes) -> bytes:
    """The same bundle, signed by KEY."""
    entries = archive.read(bundle)
    return archive.write({**entries, SIGNATURE: KEY.sign(entries[MANIFEST])})


def called(name: str, bundle: bytes, *, title: str = "") -> bytes:
    """The same bundle under another name, and with this added to its title, signed by KEY."""
    entries = archive.read(bundle)
    manifest = json.loads(entries[MANIFEST])
    manifest |= {"name": name, "title": manifest["title"] + title}
    return signed(archive.write({**entries, MANIFEST: json.dumps(manifest).encode()}))


def trust_tests(state: Path) -> None:
    """A state folder trusts KEY from now on, as one for development."""
    (state / "trust").mkdir(parents=True, exist_ok=True)
    raw = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    (state / "trust" / "tests.development.pub").write_bytes(raw)


@dataclass(frozen=True)
class Bundles:
    """Files for `scanside bundle add`."""

    usual: Path
    newer: Path
    """The same name and networks, the next version."""
    broken: Path
    """For children only; its lung network fails on every real series, not on its golden case."""


def make(tiny_files: Mapping[str, bytes], folder: Path) -> Bundles:
    """Pack them into `folder`, from the files of the tiny bundle."""
    from compile.pack import pack  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    def packed(name: str, version: str, age: list[float], segment: bytes) -> Path:
        source = json.loads(tiny_files["source.json"])
        source |= {"name": name, "version": version}
        source["accepts"]["age_years"] = age
        source["line"]["segment"]["min_ml"] = 800.0  # a lung, not the table
        source["line"]["propose"]["top_k"] = 6
        for op in source["networks"]["propose"]["preprocess"]:
            if op["op"] == "resample":
                op["spacing_mm"] = [2.5, 2.5, 2.5]
        files = {
            **tiny_files,
            "source.json": json.dumps(source).encode(),
            "segment.onnx": segment,
            "golden/segment.npz": _golden(segment),
        }
        at = folder / f"{name}-{version}"
        (at / "golden").mkdir(parents=True)
        for file, data in files.items():
            (at / file).write_bytes(data)
        path = folder / f"{name}-{version}.scanside"
        path.write_bytes(signed(pack(at)))
        return path

    return Bundles(
        packed(BUNDLE, "90.0.0", [18.0, 120.0], _lungs(whole=True)),
        packed(BUNDLE, "90.1.0", [18.0, 120.0], _lungs(whole=True)),
        packed("broken", "1.0.0", [0.0, 17.0], _lungs(whole=False)),
    )


def _lungs(*, whole: bool) -> bytes:
    """Where the mean of 5 x 5 x 5 voxels is near -850 HU. Not `whole`: 16 x 16 x 16 of it only."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    weights = {
        "w1": np.array([1.0, -1.0]).reshape(2, 1, 1, 1, 1),
        "b1": np.array([-0.12, 0.12]),
        "w2": np.array([-25.0, -25.0]).reshape(1, 2, 1, 1, 1),
        "b2": np.array([2.0]),
        "low": np.array(-6.0),
        "high": np.array(2.0),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["sides"]),
        helper.make_node("Relu", ["sides"], ["distance"]),
        helper.make_node("Conv", ["distance", "w2", "b2"], ["near"]),
        helper.make_node("Clip", ["near", "low", "high"], ["clipped"]),
        helper.make_node("AveragePool", ["clipped"], ["all"], kernel_shape=[5] * 3, pads=[2] * 6),
    ]
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    if whole:
        nodes.append(helper.make_node("Identity", ["all"], ["lungs"]))
    else:
        nodes.append(helper.make_node("Slice", ["all", "from", "to", "axes"], ["lungs"]))
        for name, values in {"from": [0, 0, 0], "to": [16] * 3, "axes": [2, 3, 4]}.items():
            tensors.append(numpy_helper.from_array(np.array(values, np.int64), name))
    volume = [1, 1, "z", "y", "x"]
    graph = helper.make_graph(
        nodes,
        "lungs",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, volume)],
        [helper.make_tensor_value_info("lungs", TensorProto.FLOAT, [1, 1, "a", "b", "c"])],
        tensors,
    )
    opset = helper.make_opsetid("", 18)
    data: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    return data


def _golden(model: bytes) -> bytes:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(7).random((1, 1, 16, 16, 16), dtype=np.float32)
    case = io.BytesIO()
    np.savez_compressed(case, input=image, lungs=session.run(None, {"image": image})[0])
    return case.getvalue()
