"""What tests of the whole line share: the tiny bundle opened, and small chests as DICOM files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance import line
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import trust
from appliance.bundle.shelf import Shelf
from appliance.bundle.trust import Bundle
from appliance.naming import Naming
from appliance.phantom import chest as phantoms
from appliance.records import Identity, Result
from appliance.report import Report, Times
from rigs.chests import Dicom, Slices
from rigs.device import Device, Process, Seal
from rigs.tiny_sick import with_disease


@pytest.fixture(scope="session")
def tiny(tiny_bytes: bytes) -> Bundle:
    """The tiny bundle as the line wants it."""
    return trust.check(tiny_bytes).bundle


@pytest.fixture(scope="session")
def second_bytes(_tiny_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tiny bundle with all that version 2 of the line added, made by hand as well: `mass` fires
    where 36 mm are denser than the 84 mm around, `cube` compares a cube's middle with its rim,
    `measure` marks what is denser than -405 HU: solid where the middle is, else ground glass."""
    return _packed(_tiny_files, tmp_path_factory.mktemp("second"), drawn=False)


@pytest.fixture(scope="session")
def third_bytes(_tiny_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same in version 3 of the line: `mass` also draws what is denser than -405 HU."""
    return _packed(_tiny_files, tmp_path_factory.mktemp("third"), drawn=True)


def _packed(tiny_files: dict[str, bytes], folder: Path, *, drawn: bool) -> bytes:
    import onnxruntime  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    from compile.pack import pack  # noqa: PLC0415

    (folder / "golden").mkdir()
    for name, data in tiny_files.items():
        (folder / name).write_bytes(data)
    source = json.loads(tiny_files["source.json"])
    shapes = {"mass": (1, 1, 32, 32, 32), "cube": (3, 1, 32, 32, 32), "measure": (2, 1, 48, 48, 48)}
    for role, model in _added(source, drawn=drawn).items():
        (folder / f"{role}.onnx").write_bytes(model)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        image = np.random.default_rng(8).random(shapes[role], dtype=np.float32)
        names = [o.name for o in session.get_outputs()]
        values = dict(zip(names, session.run(None, {"image": image}), strict=True))
        np.savez_compressed(folder / "golden" / f"{role}.npz", input=image, **values)
    (folder / "source.json").write_text(json.dumps(source))
    return pack(folder)


def _added(source: dict[str, Any], *, drawn: bool) -> dict[str, bytes]:
    """The networks of version 2, or of 3 where masses are drawn; what `source` says of them is put
    into it."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    volume, cells = [1, 1, "z", "y", "x"], [1, 1, "cz", "cy", "cx"]
    middle = np.zeros((1, 1, 32, 32, 32))
    middle[..., 4:28, 4:28, 4:28] -= 10 / 24**3
    middle[..., 12:20, 12:20, 12:20] += 10 / 8**3
    dense = np.zeros((1, 1, 48, 48, 48))
    dense[..., 22:26, 22:26, 22:26] = 1 / 4**3
    one = (1, 1, 1, 1, 1)
    pool = {"strides": [4] * 3, "auto_pad": "NOTSET"}
    made: dict[str, tuple[list[Any], dict[str, Any], list[Any], dict[str, list[Any]]]] = {
        "mass": (
            [
                ("AveragePool", ["image"], "near", {"kernel_shape": [12] * 3, "pads": [4] * 6}),
                ("AveragePool", ["image"], "around", {"kernel_shape": [28] * 3, "pads": [12] * 6}),
                ("Sub", ["near", "around"], "contrast", {}),
                ("Conv", ["contrast", "w", "b"], "heat", {}),
                ("Conv", ["contrast", "zero", "log36"], "log_diameter", {}),
            ],
            {"w": np.full(one, 20.0), "b": [-2.5], "zero": np.zeros(one), "log36": [np.log(36)]},
            volume,
            {"heat": cells, "log_diameter": cells},
        ),
        "cube": (
            [
                ("Conv", ["image", "w"], "contrast", {}),
                ("Flatten", ["contrast"], "column", {}),
                ("Squeeze", ["column", "axes"], "logit", {}),
            ],
            {"w": middle, "axes": [1]},
            ["n", 1, 32, 32, 32],
            {"logit": ["n"]},
        ),
        "measure": (
            [
                ("Conv", ["image", "w", "b"], "body", {}),
                ("Conv", ["image", "middle"], "mean", {}),
                ("Flatten", ["mean"], "shade", {}),
                ("Gemm", ["shade", "slopes", "at0"], "density", {}),
            ],
            {
                "w": np.full(one, 20.0), "b": [-20 * 0.425], "middle": dense,
                "slopes": [[1.0, 0.0, 0.0, 0.0]], "at0": [-0.57, -1.0, 0.0, -1.0],
            },
            ["n", 1, 48, 48, 48],
            {"body": ["n", 1, 48, 48, 48], "density": ["n", 4]},
        ),
    }  # fmt: skip
    if drawn:
        steps, weights, _, outputs = made["mass"]
        steps.append(("Conv", ["image", "steep", "below"], "body", {}))
        weights |= {"steep": np.full(one, 20.0), "below": [-20 * 0.425]}
        outputs["body"] = volume
    ops = {"mass": source["networks"]["segment"]["preprocess"]}
    window = {"op": "window", "low": -1000.0, "high": 400.0}
    for role, size in (("cube", 32), ("measure", 48)):
        cube = {"op": "cube", "size": size, "spacing_mm": 0.8}
        ops[role] = [{"op": "rescale"}, {"op": "orient"}, cube, window]
    networks = {}
    for role, (steps, weights, image, outputs) in made.items():
        nodes = [
            helper.make_node(op, inputs, [to], **(pool if op == "AveragePool" else {}), **given)
            for op, inputs, to, given in steps
        ]
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("image", image), *outputs.items())
        ]
        tensors = [
            numpy_helper.from_array(np.asarray(w, np.int64 if n == "axes" else np.float32), n)
            for n, w in weights.items()
        ]
        graph = helper.make_graph(nodes, role, ports[:1], ports[1:], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        networks[role] = bytes(model.SerializeToString())
        said = {k: [-1 if isinstance(n, str) else n for n in s] for k, s in outputs.items()}
        source["networks"][role] = {
            "file": f"{role}.onnx",
            "precision": "fp32",
            "inputs": [
                {"name": "image", "shape": [-1 if isinstance(n, str) else n for n in image]}
            ],
            "outputs": [{"name": name, "shape": shape} for name, shape in said.items()],
            "preprocess": ops[role],
        }
        source["goldens"].append({"network": role, "file": f"golden/{role}.npz", "atol": 1e-3})
    centers = {**source["line"]["propose"], "within_mm": 0.0, "top_k": 4}
    source["name"] = "tiny-second"
    source["line"] |= {
        "version": 2,
        "cube": {"output": "logit"},
        "mass": {"detect": centers, "scale": 2.0, "bias": 0.0, "threshold": 0.6},
        "measure": {"body": "body", "density": "density"},
    }
    source["line"]["calibration"] |= {"cube": 0.5}
    source["accepts"]["spacing_mm"] |= {"masses": 10.0}
    if drawn:
        source["name"] = "tiny-third"
        source["requires_appliance"] = "0.2.0"
        source["line"] |= {"version": 3, "body": {"output": "body"}, "one_lung_share": 0.2}
    return networks


@pytest.fixture(scope="session")
def second(second_bytes: bytes) -> Bundle:
    """The bundle of version 2 as the line wants it."""
    return trust.check(second_bytes).bundle


@pytest.fixture(scope="session")
def third(third_bytes: bytes) -> Bundle:
    """The bundle of version 3 as the line wants it."""
    return trust.check(third_bytes).bundle


@pytest.fixture(scope="session")
def sick_bytes(third_bytes: bytes) -> bytes:
    """The bundle of version 3 that also says where lungs are diseased."""
    return with_disease(third_bytes, diffuse_share=0.1)


@pytest.fixture(scope="session")
def sick(sick_bytes: bytes) -> Bundle:
    """It as the line wants it."""
    return trust.check(sick_bytes).bundle


@pytest.fixture(scope="session")
def tiny_backend(tiny_bytes: bytes) -> Iterator[Backend]:
    """Its networks in onnxruntime, which is always there."""
    loaded = trust.check(tiny_bytes)
    backend = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 2)
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def dicom() -> Dicom:
    return Dicom()


@pytest.fixture
def slices(dicom: Dicom) -> Slices:
    """A small chest that can be analysed; free to be spoilt."""
    return dicom.chest()


@pytest.fixture(scope="session")
def phantom_files(dicom: Dicom) -> list[bytes]:
    """The demo's phantom, coarse."""
    phantom = phantoms.chest(spacing_mm=(5.0, 3.5, 3.5))
    return dicom.all(dicom.series(phantom, study_uid="1.2.3.4", series_uid="1.2.3.4.5"))


@pytest.fixture(scope="session")
def process(tiny: Bundle, tiny_backend: Backend) -> Process:
    return lambda instances: line.process(instances, tiny, tiny_backend)


@pytest.fixture(scope="session")
def seal() -> Seal:
    """Result -> Report of a first, final revision."""

    def sealed(result: Result, *, publish_uids: bool = False, key: bytes = b"k" * 32) -> Report:
        identity = Identity(Naming(key), publish_uids, 1, None, preliminary=False)
        at = datetime(2026, 1, 5, tzinfo=timezone.utc)
        return line.seal(result, identity, Times(committed=at))

    return sealed


@pytest.fixture(scope="session")
def empty_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factory folder without a bundle."""
    folder = tmp_path_factory.mktemp("factory")
    (folder / "digests.json").write_text("{}")
    return folder


@pytest.fixture
def no_factory(empty_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel of this process holds no factory bundle."""
    monkeypatch.setitem(Shelf.__init__.__kwdefaults__, "factory", empty_wheel)


@pytest.fixture
def site(tmp_path: Path, tiny_bytes: bytes, no_factory: None) -> Device:
    """A device without any bundle."""
    return Device(tmp_path, tiny_bytes)


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, tiny_bytes: bytes, empty_wheel: Path
) -> Path:
    """A state folder whose one active bundle is the tiny one; to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Shelf.__init__.__kwdefaults__, "factory", empty_wheel)
        site = Device(tmp_path_factory.mktemp("prepared"), tiny_bytes)
        site.activate()
    return site.settings.state


@pytest.fixture
def ready_site(site: Device, prepared: Path) -> Device:
    """A device whose one active bundle is the tiny one."""
    shutil.copytree(prepared, site.settings.state)
    return site
