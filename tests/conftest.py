"""What tests of several parts share: a tiny real bundle, and the shared data where it is there.

`tiny_bundle` does what a lung-nodule bundle does, with hand-made weights instead of trained ones:
`segment` marks HU from about -970 to -525, `propose` fires where 4 voxels are denser than their 12
around, `classify` compares a patch's middle with its rim. Its scores mean nothing.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.host.silence import silence
from rigs import scu
from rigs.bundles import Bundles, make
from rigs.xray import Xray

silence()
scu.mended()
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data; SCANSIDE_SHARED names another."""
    named = os.environ.get("SCANSIDE_SHARED")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "unpack").is_file():
        pytest.skip(f"no shared data at {folder} (SCANSIDE_SHARED names another folder)")
    return folder


@pytest.fixture(scope="session")
def ct_series(shared_data: Path) -> Callable[[str], Path]:
    """Name of a CT series of the shared data -> its folder of DICOM files."""
    done = subprocess.run(
        [str(shared_data / "unpack")], check=True, capture_output=True, text=True, timeout=300
    )
    root = Path(done.stdout.strip().splitlines()[-1])

    def series(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            pytest.skip(f"no CT series {name} at {root}")
        return folder

    return series


@pytest.fixture
def tiny_source(tmp_path: Path, _tiny_files: dict[str, bytes]) -> Path:
    """A source folder for `compile pack`: source.json, three networks, their golden cases."""
    folder = tmp_path / "tiny-source"
    (folder / "golden").mkdir(parents=True)
    for name, data in _tiny_files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def tiny_bundle(tmp_path: Path, tiny_bytes: bytes) -> Path:
    """A valid, unsigned lung-nodule-like bundle: `tiny-nodule` 1.0.0."""
    path = tmp_path / "tiny-nodule.scanside"
    path.write_bytes(tiny_bytes)
    return path


@pytest.fixture(scope="session")
def tiny_bytes(_tiny_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of `tiny_bundle`."""
    from compile.pack import pack  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "golden").mkdir()
    for name, data in _tiny_files.items():
        (folder / name).write_bytes(data)
    return pack(folder)


@pytest.fixture(scope="session")
def _tiny_files() -> dict[str, bytes]:
    import onnxruntime  # noqa: PLC0415

    networks = {"segment": _segment(), "propose": _propose(), "classify": _classify()}
    shapes = {"segment": (1, 1, 16, 16, 16), "propose": (1, 1, 16, 16, 16)}
    shapes["classify"] = (3, 1, 48, 48)
    random = np.random.default_rng(7)
    files = {"source.json": json.dumps(tiny_manifest(), indent=1).encode()}
    for role, model in networks.items():
        files[f"{role}.onnx"] = model
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        image = random.random(shapes[role], dtype=np.float32)
        values = session.run(None, {"image": image})
        arrays = dict(zip((o.name for o in session.get_outputs()), values, strict=True))
        case = io.BytesIO()
        np.savez_compressed(case, input=image, **arrays)
        files[f"golden/{role}.npz"] = case.getvalue()
    return files


def tiny_manifest() -> dict[str, Any]:
    """source.json of the tiny bundle."""
    ready = [{"op": "rescale"}, {"op": "orient"}]
    window = {"op": "window", "low": -1000.0, "high": 400.0}
    pad = {"op": "pad", "multiple": 16}
    volume = [1, 1, -1, -1, -1]

    def network(role: str, shape: list[int], outputs: dict[str, list[int]], ops: Any) -> Any:
        return {
            "file": f"{role}.onnx",
            "precision": "fp32",
            "inputs": [{"name": "image", "shape": shape}],
            "outputs": [{"name": name, "shape": of} for name, of in outputs.items()],
            "preprocess": ops,
        }

    return {
        "schema": "scanside.bundle/1",
        "name": "tiny-nodule",
        "version": "1.0.0",
        "title": "Tiny nodule bundle for tests",
        "intended_use": "Tests of the appliance. It finds nothing that means anything.",
        "notice": "research use, not for clinical use",
        "requires_appliance": "0.1.0",
        "licence": "Apache-2.0",
        "accepts": {
            "modality": ["CT"],
            "body_part": ["CHEST", "THORAX", "LUNG"],
            "spacing_mm": {"full": 2.5, "limited": 5.0},
            "cover_mm": 100.0,
            "age_years": [18.0, 120.0],
        },
        "line": {
            "kind": "segment-propose-classify-measure",
            "version": 1,
            "segment": {"output": "lungs"},
            "propose": {
                "heat": "heat",
                "log_diameter": "log_diameter",
                "stride": 4,
                "top_k": 24,
                "within_mm": 5.0,
            },
            "classify": {"output": "logit", "views": 2},
            "calibration": {"propose": 1.0, "classify": 1.0, "bias": 0.0, "threshold": 0.5},
        },
        "networks": {
            "segment": network(
                "segment",
                volume,
                {"lungs": volume},
                [*ready, {"op": "resample", "spacing_mm": [3.0, 3.0, 3.0]}, window, pad],
            ),
            "propose": network(
                "propose",
                volume,
                {"heat": volume, "log_diameter": volume},
                [
                    *ready,
                    {"op": "resample", "spacing_mm": [1.25, 1.25, 1.25]},
                    {"op": "crop", "margin_mm": 10.0},
                    window,
                    pad,
                ],
            ),
            "classify": network(
                "classify",
                [-1, 1, 48, 48],
                {"logit": [-1]},
                [*ready, {"op": "patch", "size": 48}, window],
            ),
        },
        "goldens": [
            {"network": role, "file": f"golden/{role}.npz", "atol": 1e-3}
            for role in ("segment", "propose", "classify")
        ],
        "provenance": {
            "sources": [{"name": "none", "licence": "Apache-2.0", "digest": "-"}],
            "seed": 0,
            "code_digest": "-",
            "made": "2025-01-01",
        },
    }


VOLUME = [1, 1, "z", "y", "x"]


def _segment() -> bytes:
    """logit = 4 - 25 * |x - 0.18|: above 0 from about -970 to -525 HU."""
    from onnx import helper  # noqa: PLC0415

    return _model(
        [
            helper.make_node("Conv", ["image", "w1", "b1"], ["sides"]),
            helper.make_node("Relu", ["sides"], ["distance"]),
            helper.make_node("Conv", ["distance", "w2", "b2"], ["lungs"]),
        ],
        {
            "w1": np.array([1.0, -1.0]).reshape(2, 1, 1, 1, 1),
            "b1": np.array([-0.18, 0.18]),
            "w2": np.array([-25.0, -25.0]).reshape(1, 2, 1, 1, 1),
            "b2": np.array([4.0]),
        },
        VOLUME,
        {"lungs": VOLUME},
    )


def _propose() -> bytes:
    """heat = 20 * (mean of a cell - mean of 12 voxels around) - 4; the diameter is always 8 mm."""
    from onnx import helper  # noqa: PLC0415

    cells = [1, 1, "cz", "cy", "cx"]
    return _model(
        [
            helper.make_node(
                "AveragePool", ["image"], ["near"], kernel_shape=[4] * 3, strides=[4] * 3
            ),
            helper.make_node(
                "AveragePool",
                ["image"],
                ["around"],
                kernel_shape=[12] * 3,
                strides=[4] * 3,
                pads=[4] * 6,
            ),
            helper.make_node("Sub", ["near", "around"], ["contrast"]),
            helper.make_node("Conv", ["contrast", "w1", "b1"], ["heat"]),
            helper.make_node("Conv", ["contrast", "w0", "b2"], ["log_diameter"]),
        ],
        {
            "w1": np.full((1, 1, 1, 1, 1), 20.0),
            "b1": np.array([-4.0]),
            "w0": np.zeros((1, 1, 1, 1, 1)),
            "b2": np.array([math.log(8.0)]),
        },
        VOLUME,
        {"heat": cells, "log_diameter": cells},
    )


def _classify() -> bytes:
    """logit = 10 * (mean of the middle 8 pixels - mean of the middle 24 pixels)."""
    from onnx import helper  # noqa: PLC0415

    weights = np.zeros((1, 1, 48, 48))
    weights[0, 0, 12:36, 12:36] -= 10.0 / 24**2
    weights[0, 0, 20:28, 20:28] += 10.0 / 8**2
    return _model(
        [
            helper.make_node("Conv", ["image", "w"], ["contrast"]),
            helper.make_node("Flatten", ["contrast"], ["column"], axis=1),
            helper.make_node("Squeeze", ["column", "axes"], ["logit"]),
        ],
        {"w": weights, "axes": np.array([1])},
        ["n", 1, 48, 48],
        {"logit": ["n"]},
    )


def _model(
    nodes: list[Any],
    weights: dict[str, Any],
    shape: list[int | str],
    outputs: dict[str, list[Any]],
) -> bytes:
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    def value(name: str, of: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, of)

    tensors = [
        numpy_helper.from_array(array.astype(np.int64 if name == "axes" else np.float32), name)
        for name, array in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("image", shape)],
        [value(name, of) for name, of in outputs.items()],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="session")
def tiny_radiograph_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """`chest-pneumonia` 1.0.0 of the tests, in place of the factory's, for children up to five:
    score = sigmoid(8 * mean grey - 4); the map shows how bright each pixel is."""
    import onnxruntime  # noqa: PLC0415

    from compile.pack import pack  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    folder = tmp_path_factory.mktemp("tiny-radiograph")
    (folder / "golden").mkdir()
    model = _brightness()
    image = np.random.default_rng(3).random((1, 1, 28, 28), dtype=np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = dict(zip(("logit", "activation"), session.run(None, {"image": image}), strict=True))
    case = io.BytesIO()
    np.savez_compressed(case, input=image, **outputs)
    (folder / "golden" / "classify.npz").write_bytes(case.getvalue())
    (folder / "classify.onnx").write_bytes(model)
    (folder / "source.json").write_text(json.dumps(tiny_radiograph_manifest()))
    return pack(folder)


@pytest.fixture(scope="session")
def water_qa_bytes() -> bytes:
    """The bundle that measures water phantoms: it has no network, so the real one is tiny."""
    from compile.pack import pack  # noqa: PLC0415 - as above

    return pack(REPOSITORY / "compile" / "sources" / "water_qa")


def tiny_radiograph_manifest() -> dict[str, Any]:
    """source.json of the tiny bundle for radiographs."""
    same = {name: tiny_manifest()[name] for name in ("schema", "licence", "provenance")}
    return {
        **same,
        "name": "chest-pneumonia",
        "version": "1.0.0",
        "title": "Tiny radiograph bundle for tests",
        "intended_use": "Tests of the appliance. It finds nothing that means anything.",
        "notice": "demonstration, research use, not for clinical use",
        "accepts": {
            "modality": ["CR", "DX"],
            "body_part": ["CHEST", "THORAX", "LUNG"],
            "required": ["age", "body_part"],
            "age_years": [0.0, 5.0],
            "min_slices": 1,
        },
        "line": {
            "kind": "classify",
            "version": 1,
            "finding": "pneumonia",
            "output": "logit",
            "activation": "activation",
            "scale": 1.0,
            "bias": 0.0,
            "threshold": 0.5,
        },
        "networks": {
            "classify": {
                "file": "classify.onnx",
                "precision": "fp32",
                "inputs": [{"name": "image", "shape": [-1, 1, 28, 28]}],
                "outputs": [
                    {"name": "logit", "shape": [-1]},
                    {"name": "activation", "shape": [-1, 1, 28, 28]},
                ],
                "preprocess": [
                    {"op": "display"},
                    {"op": "collimation"},
                    {"op": "square", "size": 28},
                ],
            }
        },
        "goldens": [{"network": "classify", "file": "golden/classify.npz", "atol": 1e-4}],
    }


def _brightness() -> bytes:
    """activation = 8 * grey - 4; logit = its mean."""
    from onnx import helper  # noqa: PLC0415

    image: list[int | str] = ["n", 1, 28, 28]
    return _model(
        [
            helper.make_node("Conv", ["image", "w", "b"], ["activation"]),
            helper.make_node("GlobalAveragePool", ["activation"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["column"], axis=1),
            helper.make_node("Squeeze", ["column", "axes"], ["logit"]),
        ],
        {"w": np.full((1, 1, 1, 1), 8.0), "b": np.array([-4.0]), "axes": np.array([1])},
        image,
        {"logit": ["n"], "activation": image},
    )


@pytest.fixture(scope="session")
def bundles(_tiny_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Bundles for whole devices."""
    return make(_tiny_files, tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def xray() -> Xray:
    return Xray()
