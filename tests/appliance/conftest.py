"""What tests of the whole line share: the tiny bundle opened, and small chests as DICOM files."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import copy, deepcopy
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from appliance import line
from appliance.backend.open import open_backend
from appliance.backend.protocol import Backend
from appliance.bundle import archive, trust
from appliance.bundle.shelf import Entry, Shelf
from appliance.bundle.trust import Bundle
from appliance.phantom import chest as phantoms
from appliance.phantom.chest import Phantom
from appliance.phantom.instances import series
from appliance.records import Identity, Result
from appliance.report import Report, Times
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings

Slices = list[Dataset]
STEP_MM, PIXEL_MM, COUNT, SIDE = 5.0, 4.0, 24, 80


@pytest.fixture(scope="session")
def tiny(tiny_bytes: bytes) -> Bundle:
    """The tiny bundle as the line wants it."""
    return trust.check(tiny_bytes).bundle


@pytest.fixture(scope="session")
def second_bytes(_tiny_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tiny bundle with all that version 2 of the line added, made by hand as well: `mass` fires
    where 36 mm are denser than the 84 mm around, `cube` compares a cube's middle with its rim,
    `measure` marks what is denser than -405 HU: solid where the middle is, else ground glass."""
    import onnxruntime  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    from compile.pack import pack  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("second")
    (folder / "golden").mkdir()
    for name, data in _tiny_files.items():
        (folder / name).write_bytes(data)
    source = json.loads(_tiny_files["source.json"])
    shapes = {"mass": (1, 1, 32, 32, 32), "cube": (3, 1, 32, 32, 32), "measure": (2, 1, 48, 48, 48)}
    for role, model in _added(source).items():
        (folder / f"{role}.onnx").write_bytes(model)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        image = np.random.default_rng(8).random(shapes[role], dtype=np.float32)
        names = [o.name for o in session.get_outputs()]
        values = dict(zip(names, session.run(None, {"image": image}), strict=True))
        np.savez_compressed(folder / "golden" / f"{role}.npz", input=image, **values)
    (folder / "source.json").write_text(json.dumps(source))
    return pack(folder)


def _added(source: dict[str, Any]) -> dict[str, bytes]:
    """The networks of version 2; what `source` says of them is put into it."""
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
    return networks


@pytest.fixture(scope="session")
def second(second_bytes: bytes) -> Bundle:
    """The bundle of version 2 as the line wants it."""
    return trust.check(second_bytes).bundle


@pytest.fixture(scope="session")
def tiny_backend(tiny_bytes: bytes) -> Iterator[Backend]:
    """Its networks in onnxruntime, which is always there."""
    loaded = trust.check(tiny_bytes)
    backend = open_backend("onnxruntime", dict(loaded.manifest.networks), loaded.networks, 2)
    yield backend
    backend.close()


class Dicom:
    """Datasets of small chests, and how they are written."""

    def chest(
        self,
        *,
        lungs: bool = True,
        shift_hu: int = 0,
        step_mm: float = STEP_MM,
        study_uid: str = "1.2.826.0.1.3680043.10.1",
        series_uid: str = "1.2.826.0.1.3680043.10.1.2",
        **tags: object,
    ) -> Slices:
        """24 images of 80 x 80: an oval body, two lungs, five balls of tissue in them."""
        z, y, x = np.meshgrid(
            *(
                (np.arange(n) - (n - 1) / 2) * step
                for n, step in zip((COUNT, SIDE, SIDE), (step_mm, PIXEL_MM, PIXEL_MM), strict=True)
            ),
            indexing="ij",
        )
        hu = np.full(z.shape, -1000, np.int16)
        hu[(x / 150) ** 2 + (y / 110) ** 2 < 1] = 40
        if lungs:
            for side in (-1, 1):
                hu[((x - 70 * side) / 55) ** 2 + (y / 80) ** 2 + (z / 48) ** 2 < 1] = -800
            for at in ((0, 0, 60), (10, 20, -60), (-20, -30, 80), (20, 10, 50), (-10, 5, -85)):
                dz, dy, dx = at
                hu[(x - dx) ** 2 + (y - dy) ** 2 + (z - dz) ** 2 < 9**2] = 40
        noise = np.random.default_rng(5).integers(-10, 10, hu.shape).astype(np.int16)
        origin = (float(x[0, 0, 0]), float(y[0, 0, 0]), float(z[0, 0, 0]))
        phantom = Phantom(hu + noise + np.int16(shift_hu), (step_mm, 4.0, 4.0), origin, ())
        return self.series(phantom, study_uid=study_uid, series_uid=series_uid, **tags)

    def series(
        self, phantom: Phantom, *, study_uid: str, series_uid: str, **tags: object
    ) -> Slices:
        made = series(phantom, study_uid=study_uid, series_uid=series_uid)
        slices = [self._own(ds) for ds in made]
        for ds in slices:
            self.say(ds, **tags)
        return slices

    def _own(self, ds: Dataset) -> Dataset:
        """Elements of its own: those of one series share them."""
        own = Dataset({element.tag: copy(element) for element in ds})
        own.file_meta = ds.file_meta
        return own

    def say(self, ds: Dataset, **tags: object) -> Dataset:
        """Change tags in place; None takes one out. Nothing is checked."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, value in tags.items():
                if value is None:
                    del ds[name]
                else:
                    setattr(ds, name, value)
        return ds

    def bytes(self, ds: Dataset, syntax: str | None = None) -> bytes:
        """Part 10, in the data set's own or another transfer syntax; UIDs stay as they are."""
        if syntax is not None:
            ds = self._in(deepcopy(ds), UID(syntax))
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bad values are wanted here
            ds.save_as(out, enforce_file_format=True)
        return out.getvalue()

    def _in(self, ds: Dataset, syntax: UID) -> Dataset:
        if syntax.is_encapsulated and syntax != DeflatedExplicitVRLittleEndian:
            ds.compress(syntax, generate_instance_uid=False)
            return ds
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<i2").byteswap().tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
        return ds

    def all(self, slices: Sequence[Dataset], syntax: str | None = None) -> list[bytes]:
        return [self.bytes(ds, syntax) for ds in slices]

    def write(self, slices: Sequence[Dataset], folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for i, ds in enumerate(slices):
            (folder / f"{i:04d}.dcm").write_bytes(self.bytes(ds))
        return folder


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


Process = Callable[[Sequence[bytes]], Result]
Seal = Callable[..., Report]


@pytest.fixture(scope="session")
def process(tiny: Bundle, tiny_backend: Backend) -> Process:
    return lambda instances: line.process(instances, tiny, tiny_backend)


@pytest.fixture(scope="session")
def seal() -> Seal:
    """Result -> Report of a first, final revision."""

    def sealed(result: Result, *, publish_uids: bool = False, key: bytes = b"k" * 32) -> Report:
        identity = Identity(key, publish_uids, 1, None, preliminary=False)
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


def renamed(bundle: bytes, **changes: object) -> bytes:
    """The same bundle with other words in its manifest; unsigned."""
    entries = archive.read(bundle)
    manifest = json.loads(entries["manifest.json"]) | changes
    return archive.write(entries | {"manifest.json": json.dumps(manifest).encode()})


class Site:
    """A device of one process: its settings, and bundles that become active on it."""

    def __init__(self, folder: Path, bundle: bytes) -> None:
        self.folder, self.bundle = folder, bundle
        self.settings = Settings.model_validate(
            {
                "state": folder / "state",
                "work": {"backend": "onnxruntime", "threads": 2, "quiet_s": 0.2},
            }
        )

    def activate(self, **changes: object) -> Entry:
        """The tiny bundle, under another name or with other wishes, is active from now on."""
        path = self.folder / "added.scanside"
        path.write_bytes(renamed(self.bundle, **changes))
        shelf = OpenBundles(self.settings, lambda *_: None).shelf
        entry = shelf.add(path, allow_unsigned=True)
        return shelf.activate(entry.name, entry.digest)

    def toml(self) -> Path:
        path = self.folder / "scanside.toml"
        path.write_text(
            f'state = "{self.settings.state}"\n[work]\nbackend = "onnxruntime"\nthreads = 2\n'
        )
        return path


@pytest.fixture
def site(tmp_path: Path, tiny_bytes: bytes, no_factory: None) -> Site:
    """A device without any bundle."""
    return Site(tmp_path, tiny_bytes)


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, tiny_bytes: bytes, empty_wheel: Path
) -> Path:
    """A state folder whose one active bundle is the tiny one; to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Shelf.__init__.__kwdefaults__, "factory", empty_wheel)
        site = Site(tmp_path_factory.mktemp("prepared"), tiny_bytes)
        site.activate()
    return site.settings.state


@pytest.fixture
def ready_site(site: Site, prepared: Path) -> Site:
    """A device whose one active bundle is the tiny one."""
    shutil.copytree(prepared, site.settings.state)
    return site
