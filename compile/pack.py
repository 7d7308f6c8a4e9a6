"""A source folder -> one bundle.

    python -m compile pack SOURCE -o OUT.scanside [--phantom]
    python -m compile pack OLD.scanside --as-version 1.2.1 -o OUT.scanside [--phantom]
    python -m compile pack ... --shapes SHAPES.npz
    python -m compile pack ... --usual usual.json
    python -m compile factory BUNDLE...

Rules.
1. SOURCE holds source.json (a manifest without the digests of its files), the .onnx files,
   golden/*.npz and, where there are any, the shapes. The digests are filled in here; everything
   else is as it stands.
2. A network is checked before it is packed: the rules of a device (appliance.bundle.graph), valid
   ONNX, and inputs and outputs exactly those of the manifest by name, type and shape. What the
   linter calls an error is refused.
3. Every network has a golden case, and onnxruntime reproduces each within its tolerance.
4. The same source gives the same bytes. The output is written whole or not at all.
5. With --phantom the manifest records what the bundle finds in the phantom of its kind on
   onnxruntime, by which a device proves it (appliance/runtime/proof.py). A bundle that does not
   analyse the phantom is refused, and one whose preprocessing is not faithful to it
   (appliance/quality/faithful); one that takes no images has its golden cases alone.
6. A bundle stands for the folder that it was packed of. It has no signature then, and must get
   another version: a name and version never return with other bytes.
7. With --shapes the bundle carries that file for the probe (appliance/quality/shapes.py), in place
   of what its source has; the manifest says its source, its licence and how many they are.
8. With --usual the line of lung nodules says between which figures images are usual and how much is
   found in them, as training.recipes.lung_nodule.usual writes it; the line becomes version 4.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from appliance import line
from appliance.backend import cpu
from appliance.backend.open import open_backend
from appliance.bundle import archive, golden, graph, trust
from appliance.bundle.lines import ADDED
from appliance.bundle.manifest import (
    MANIFEST,
    SINCE_SHAPES,
    Network,
    PhantomFinding,
    PhantomRecord,
    Port,
    older,
    read,
    write,
)
from appliance.errors import BundleRefused
from appliance.lines import kinds
from appliance.phantom.version import VERSION
from appliance.quality import shapes as shape_files
from appliance.report import Finding, Status
from appliance.runtime import faithful
from compile.lint import lint

SOURCE = "source.json"
USUAL_OF, USUAL_SINCE = "segment-propose-classify-measure", 4
"""Kind and version of the line that may have limits (rule 8)."""
SINCE_USUAL = "0.2.0"
"""The first appliance that knows that version."""
REMEDY = "Correct the source folder and pack it again."


def pack(
    source: Path,
    *,
    goldens: bool = True,
    phantom: bool = False,
    version: str | None = None,
    shapes: bytes | None = None,
    usual: bytes | None = None,
) -> bytes:
    """The bundle of a source folder, or of a bundle (rule 6). BundleRefused says what to correct;
    `goldens` False skips running the golden cases (rule 3), not their presence. `phantom`: rule 5.
    `version` replaces that of the source, `shapes` its shapes (rule 7), `usual` its limits
    (rule 8)."""
    if source.is_file():
        with tempfile.TemporaryDirectory() as folder:
            unpack(source, Path(folder), version)
            return pack(Path(folder), goldens=goldens, phantom=phantom, shapes=shapes, usual=usual)
    described = _described(source)
    if version is not None:
        described["version"] = version
    if shapes is not None:
        described |= _with_shapes(described, shapes)
    if usual is not None:
        described |= _with_usual(described, usual)
    files = _files(source, described, shapes)
    manifest = read(json.dumps(described).encode())
    for role, network in manifest.networks.items():
        check_network(role, network, files[network.file])
        for finding in lint(files[network.file], network, role):
            if finding.severity == "error":
                raise _refused(finding.one_line())
    data = archive.write({**files, MANIFEST: write(manifest)})
    loaded = trust.check(data)
    golden.require_cases(loaded)
    if goldens:
        result = golden.gate(loaded, onnxruntime_infer(loaded))
        if not result.passed:
            raise _refused(f"golden cases do not pass on onnxruntime: {result.one_line()}")
    if phantom and manifest.line.takes_images:
        shown = kinds.of(manifest).example()
        proved = manifest.model_copy(update={"phantom": found_in_phantom(loaded, shown)})
        require_faithful(loaded, shown)
        data = archive.write({**files, MANIFEST: write(proved)})
        trust.check(data)
    return data


def unpack(bundle: Path, folder: Path, version: str | None) -> None:
    """The source folder of a bundle (rule 6), into `folder`."""
    entries = archive.read(bundle.read_bytes())
    trust.check(archive.write(entries))
    described = json.loads(entries[MANIFEST])
    if version in (None, described["version"]):
        raise BundleRefused(
            f"{bundle} is {described['name']} {described['version']} already",
            remedy="Give what is packed anew another version: --as-version.",
            code="bundle_version_taken",
        )
    described.pop("phantom", None)
    for part in _parts(described):
        del part["digest"]
        target = folder / part["file"]
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(entries[part["file"]])
    (folder / SOURCE).write_text(json.dumps({**described, "version": version}))


def found_in_phantom(loaded: trust.Loaded, shown: Sequence[bytes]) -> PhantomRecord:
    """Rule 5: what the bundle finds in the instances of its phantom, to 0.01 mm and 0.0001 of a
    score."""
    networks: dict[str, Network] = dict(loaded.manifest.networks.items())
    backend = open_backend("onnxruntime", networks, loaded.networks, 2)
    try:
        result = line.process(shown, loaded.bundle, backend)
    finally:
        backend.close()
    if result.status is not Status.ANALYSED:
        codes = ", ".join(reason.code.value for reason in result.reasons)
        raise _refused(f"it does not analyse the phantom: {codes}")
    return PhantomRecord(version=VERSION, findings=tuple(map(_recorded, result.findings)))


def require_faithful(loaded: trust.Loaded, shown: Sequence[bytes]) -> None:
    """Rule 5: BundleRefused (`bundle_unfaithful`) names the networks whose op list fails a limit of
    appliance/quality/faithful/verdict.py on the phantom, and which."""
    wrong = [one for one in faithful.of_series(loaded.bundle, shown) if one.fails]
    if wrong:
        text = "; ".join(f"{', '.join(one.networks)}: {one.failed()}" for one in wrong)
        raise BundleRefused(
            f"preprocessing is not faithful to the phantom: {text}",
            remedy="Correct `preprocess` of these networks: a finer spacing, a window that holds "
            "lung and soft tissue; docs/watching/faithful.md has the limits.",
            code="bundle_unfaithful",
        )


def _recorded(one: Finding) -> PhantomFinding:
    at = one.center_lps_mm
    return PhantomFinding(
        kind=one.kind,
        score=round(one.score, 4),
        threshold=one.threshold,
        center_lps_mm=None if at is None else (round(at[0], 2), round(at[1], 2), round(at[2], 2)),
        diameter_mm=one.diameter_mm,
    )


def check_network(role: str, network: Network, data: bytes) -> None:
    """Rule 2. Where the package `onnx` is not installed, only a device's own rules and the golden
    cases check a network."""
    graph.check(network.file, data)
    if importlib.util.find_spec("onnx") is None:
        return
    import onnx  # noqa: PLC0415 - a device packs nothing and has no onnx

    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
    except Exception as e:  # onnx raises its own, protobuf's and plain ValueErrors
        raise _refused(f"{network.file}: not a valid ONNX model: {str(e)[:200]}") from e
    weights = {t.name for t in model.graph.initializer}
    inputs = [_port(value, onnx) for value in model.graph.input if value.name not in weights]
    outputs = [_port(value, onnx) for value in model.graph.output]
    for what, there, declared in (
        ("inputs", inputs, network.inputs),
        ("outputs", outputs, network.outputs),
    ):
        if sorted(there, key=_name) != sorted(declared, key=_name):
            raise _refused(
                f"network {role!r}: {network.file} has the {what} {_shown(there)}, "
                f"{SOURCE} says {_shown(declared)}"
            )


def onnxruntime_infer(loaded: trust.Loaded) -> golden.Infer:
    """The networks of a bundle as the appliance runs them on onnxruntime, with two threads."""
    runs = cpu.load_onnxruntime(dict(loaded.manifest.networks.items()), loaded.networks, 2)

    def infer(role: str, given: golden.Given) -> golden.Arrays:
        try:
            return dict(runs[role](given))
        except cpu.LibraryError as e:
            raise _refused(f"network {role!r} does not run on onnxruntime: {str(e)[:200]}") from e

    return infer


def factory(bundles: Iterable[Path], folder: Path) -> None:
    """Put bundles into `folder` (appliance/factory) with their digests; names that are not given
    keep theirs."""
    table = json.loads((folder / "digests.json").read_bytes())
    (folder / "bundles").mkdir(exist_ok=True)
    for path in bundles:
        data = path.read_bytes()
        ref = trust.check(data).ref
        put(folder / "bundles" / f"{ref.name}{archive.SUFFIX}", data)
        table[ref.name] = {"version": ref.version, "digest": ref.digest}
    text = json.dumps(table, indent=1, sort_keys=True) + "\n"
    trust.factory_digests(text.encode())
    put(folder / "digests.json", text.encode())


def put(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    handle, temp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temp).chmod(0o644)
        Path(temp).replace(path)
    except BaseException:
        Path(temp).unlink(missing_ok=True)
        raise


def _with_shapes(described: dict[str, Any], data: bytes) -> dict[str, Any]:
    """What a manifest says of these shapes, and the appliance that it needs for them."""
    try:
        said = shape_files.said(shape_files.read(data))
    except ValueError as e:
        raise _refused(f"--shapes: {e}") from e
    return {"shapes": said, "requires_appliance": _at_least(described, SINCE_SHAPES)}


def _with_usual(described: dict[str, Any], data: bytes) -> dict[str, Any]:
    """The line with these limits, and the appliance that it needs for them."""
    line = described.get("line")
    if not isinstance(line, dict) or line.get("kind") != USUAL_OF:
        raise _refused(f"--usual is for a line of the kind {USUAL_OF}")
    try:
        given = json.loads(data)
    except ValueError as e:
        raise _refused(f"--usual: not JSON: {e}") from e
    if not isinstance(given, dict) or set(given) != set(ADDED[USUAL_SINCE]):
        raise _refused(f"--usual: it has to say {' and '.join(ADDED[USUAL_SINCE])}, and no more")
    version = line.get("version")
    newer = version if isinstance(version, int) and version > USUAL_SINCE else USUAL_SINCE
    return {
        "line": {**line, **given, "version": newer},
        "requires_appliance": _at_least(described, SINCE_USUAL),
    }


def _at_least(described: dict[str, Any], version: str) -> str:
    """The appliance that a bundle needs which needs this one for a part of it."""
    needs = str(described.get("requires_appliance", version))
    return version if older(needs, version) else needs


def _files(source: Path, described: dict[str, Any], shapes: bytes | None) -> dict[str, bytes]:
    """Every file that is named, by name; its digest is filled in."""
    files: dict[str, bytes] = {}
    for part in _parts(described):
        name = part.get("file") if isinstance(part, dict) else None
        if not isinstance(name, str):
            raise _refused(f"{SOURCE}: a network, golden case or `shapes` names no file")
        if "digest" in part:
            raise _refused(f"{SOURCE}: {name} has a digest; pack fills it in")
        if shapes is not None and name == shape_files.FILE:
            files[name] = shapes
        else:
            files[name] = _file(source, name)
        part["digest"] = hashlib.sha256(files[name]).hexdigest()
    return files


def _parts(described: dict[str, Any]) -> list[Any]:
    """What names a file: networks, golden cases, shapes."""
    shapes = [described["shapes"]] if "shapes" in described else []
    return [*described.get("networks", {}).values(), *described.get("goldens", []), *shapes]


def _described(source: Path) -> dict[str, Any]:
    """source.json, as far as its shape is needed to fill in digests."""
    try:
        described = json.loads(_file(source, SOURCE))
    except ValueError as e:
        raise _refused(f"{source / SOURCE}: not JSON: {e}") from e
    if (
        not isinstance(described, dict)
        or not isinstance(described.get("networks", {}), dict)
        or not isinstance(described.get("goldens", []), list)
    ):
        raise _refused(f"{source / SOURCE}: not a manifest")
    return described


def _file(source: Path, name: str) -> bytes:
    path = source / name
    if not path.resolve().is_relative_to(source.resolve()):
        raise _refused(f"{name} lies outside the source folder")
    try:
        return path.read_bytes()
    except OSError as e:
        raise _refused(f"{path}: {e.strerror}") from e


def _port(value: Any, onnx: Any) -> Port:
    """A graph's input or output; a named or missing dimension is free (-1)."""
    tensor = value.type.tensor_type
    dtypes = {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.FLOAT16: "float16",
        onnx.TensorProto.INT8: "int8",
    }
    if tensor.elem_type not in dtypes or not tensor.HasField("shape"):
        raise _refused(f"{value.name} is no tensor of float32, float16 or int8 with a shape")
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return Port.model_validate(
        {"name": value.name, "shape": shape, "dtype": dtypes[tensor.elem_type]}
    )


def _name(port: Port) -> str:
    return port.name


def _shown(ports: Iterable[Port]) -> str:
    return ", ".join(f"{p.name} {p.dtype} {list(p.shape)}" for p in ports) or "none"


def _refused(text: str) -> BundleRefused:
    return BundleRefused(text, remedy=REMEDY, code="bundle_source")
