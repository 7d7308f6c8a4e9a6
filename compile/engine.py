"""A bundle -> engines for one GPU architecture, and the manifest that says what they are.

    python -m compile engine BUNDLE.scanside --target this -o DIR

Rules.
1. The linter comes first: TensorRT takes some networks that compute something else (uint8 zero
   points read as int8, scales on the wrong axis) without an error.
2. `this` builds on this machine's GPU, for it alone: plans are bound to architecture, TensorRT
   version and platform. `rtx:SM86` builds with TensorRT-RTX for a GPU that need not be here: it
   proves that NVIDIA's parser and builder take the networks, no more.
3. Free axes get one optimisation profile from the op list (`profile`). A series beyond it is not
   for this engine.
4. engine.json is written last and names every engine by its digest: what stood in the folder before
   stays whole until then, and a build that fails changes nothing.
5. A timing cache is used again only where engine.json vouches for its digest, for the same library,
   version, GPU and board.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from appliance.bundle.manifest import FileName, Manifest, Network
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused
from appliance.host import facts
from appliance.preprocess import plan
from appliance.preprocess.spec import Pad
from appliance.report import BundleRef, Digest, Record
from appliance.store.files import DISK
from compile import driver, tensorrt
from compile.lint import lint_bundle
from compile.tensorrt import Built, Library, Shapes

MANIFEST = "engine.json"
CACHE = "timing.cache"
TARGET = re.compile(r"this|rtx:SM\d{2,3}")
WHOLE_MM = (320.0, 360.0, 360.0), (500.0, 500.0, 500.0)
"""(z, y, x) of a whole chest CT, usual and largest: 500 mm is the widest standard field of view."""
LUNGS_MM = (280.0, 200.0, 290.0), (380.0, 320.0, 420.0)
"""(z, y, x) of the box around both lungs, usual and largest, without its margin."""


class Engine(Record):
    """One network's engine, beside engine.json."""

    file: FileName
    digest: Digest
    bytes: int
    onnx_digest: Digest
    profile: dict[str, Shapes]
    """Input -> smallest, usual and largest shape; empty where no axis is free."""


class EngineManifest(Record):
    """engine.json."""

    schema_: Literal["scanside.engine/1"] = Field(default="scanside.engine/1", alias="schema")
    bundle: BundleRef
    target: str
    library: str
    version: str
    typing: Literal["strong", "flags"]
    architecture: str
    """sm_87."""
    gpu: str | None
    """None, like the two below, where it was built for a GPU that is not here."""
    board: str | None
    power_mode: str | None
    workspace_bytes: int
    timing_cache: Digest | None
    engines: dict[str, Engine]
    """By role."""

    model_config = ConfigDict(**{**Record.model_config, "populate_by_name": True})


@dataclass(frozen=True, slots=True)
class Target:
    """With what, and for what."""

    name: str
    library: Library
    architecture: str
    gpu: driver.Driver | None


def target(name: str) -> Target:
    """A name that TARGET matches -> Target. BackendUnavailable: no driver, no library, or it does
    not build for this GPU."""
    if name != "this":
        return _listed(Target(name, tensorrt.load("tensorrt_rtx"), f"sm_{name[6:]}", None))
    gpu = driver.probe()
    try:
        return Target(name, tensorrt.load("tensorrt"), gpu.architecture, gpu)
    except BackendUnavailable as full:
        try:
            return _listed(Target(name, tensorrt.load("tensorrt_rtx"), gpu.architecture, gpu))
        except BackendUnavailable as rtx:
            text = f"{gpu.name} ({gpu.architecture}): {full.text}; {rtx.text}"
            raise BackendUnavailable(text, remedy=full.remedy) from rtx


def _listed(wanted: Target) -> Target:
    known = wanted.library.architectures
    if wanted.architecture in known:
        return wanted
    raise BackendUnavailable(
        f"{wanted.library.name} {wanted.library.version} does not build for {wanted.architecture}",
        remedy=f"It builds for {', '.join(known)}; others build on the device, with TensorRT.",
    )


def profile(role: str, network: Network, manifest: Manifest) -> dict[str, Shapes]:
    """Shapes for the free axes of a network's inputs.

    Volumes [1, 1, z, y, x]: the millimetres above at the op list's spacing, up to its pad multiple;
    the smallest is one multiple. Patches [n, 1, y, x]: 1 to top_k * views, cubes to top_k, both
    fastest at the most.
    BundleRefused `engine_axes` names an axis that follows neither rule.
    """
    read = plan.steps(network.preprocess)
    multiple = next((op.multiple for op in read.points if isinstance(op, Pad)), 1)
    margin = 0.0 if read.crop is None else 2 * read.crop.margin_mm
    usual_mm, most_mm = WHOLE_MM if read.crop is None else LUNGS_MM
    found: dict[str, Shapes] = {}
    for port in network.inputs:
        shapes = [list(port.shape) for _ in range(3)]
        for axis, size in enumerate(port.shape):
            if size != -1:
                continue
            if (read.patch or read.cube) and axis == 0:
                line = manifest.nodules()
                most = line.propose.top_k * (line.classify.views if read.patch else 1)
                steps = (1, most, most)
            elif read.spacing_mm is not None and len(port.shape) == 5 and axis > 1:
                spacing = read.spacing_mm[axis - 2]
                ends = (mm[axis - 2] + margin for mm in (usual_mm, most_mm))
                usual, most = (math.ceil(end / spacing / multiple) * multiple for end in ends)
                steps = (multiple, usual, most)
            else:
                raise BundleRefused(
                    f"network {role!r}: axis {axis} of {port.name!r} is free, and no op bounds it",
                    code="engine_axes",
                    remedy="Fix the axis, or give the network a resample op (volumes) or a patch.",
                )
            for shape, step in zip(shapes, steps, strict=True):
                shape[axis] = step
        if -1 in port.shape:
            found[port.name] = tuple(shapes[0]), tuple(shapes[1]), tuple(shapes[2])
    return found


def lint_first(loaded: Loaded) -> None:
    """Rule 1. BundleRefused `lint` names the first node that breaks a rule."""
    errors = [finding for finding in lint_bundle(loaded) if finding.severity == "error"]
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise BundleRefused(
            f"network {first.network!r}: {first.node}: {first.text} ({first.rule}){more}",
            code="lint",
            remedy=first.remedy,
        )


def read(folder: Path) -> EngineManifest | None:
    """engine.json of a folder; None where there is none that can be read."""
    try:
        return EngineManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def build(loaded: Loaded, wanted: Target, folder: Path) -> tuple[EngineManifest, tuple[str, ...]]:
    """Every network of a bundle -> engines in `folder`; their manifest, and TensorRT's warnings."""
    lint_first(loaded)
    here = wanted.gpu is not None
    made = EngineManifest(
        bundle=loaded.ref,
        target=wanted.name,
        library=wanted.library.name,
        version=wanted.library.version,
        typing="strong" if wanted.library.strong else "flags",
        architecture=wanted.architecture,
        gpu=wanted.gpu.name if wanted.gpu else None,
        board=facts.model() if here else None,
        power_mode=driver.power_mode() if here else None,
        workspace_bytes=tensorrt.WORKSPACE_BYTES,
        timing_cache=None,
        engines={},
    )
    cache = kept_cache(folder, made)
    engines: dict[str, Engine] = {}
    files: dict[str, bytes] = {}
    warnings: list[str] = []
    for role, network in sorted(loaded.manifest.networks.items()):
        shapes = profile(role, network, loaded.manifest)
        built: Built = tensorrt.build(
            wanted.library,
            role,
            network,
            loaded.networks[role],
            shapes,
            architecture=wanted.architecture,
            timing_cache=cache,
        )
        cache = built.timing_cache
        warnings += [f"{role}: {warning}" for warning in built.warnings]
        digest = hashlib.sha256(built.data).hexdigest()
        file = f"{role}-{digest[:16]}.engine"
        files[file] = built.data
        engines[role] = Engine(
            file=file,
            digest=digest,
            bytes=len(built.data),
            onnx_digest=network.digest,
            profile=shapes,
        )
    kept = hashlib.sha256(cache).hexdigest() if cache is not None else None
    made = made.model_copy(update={"engines": engines, "timing_cache": kept})
    _put(folder, made, files, cache)
    return made, tuple(warnings)


def kept_cache(folder: Path, made: EngineManifest) -> bytes | None:
    """The timing cache to begin with, by rule 5; None to begin anew."""
    before = read(folder)
    same = ("library", "version", "architecture", "gpu", "board")
    if before is None or any(getattr(before, name) != getattr(made, name) for name in same):
        return None
    try:
        data = (folder / CACHE).read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == before.timing_cache else None


def _put(folder: Path, made: EngineManifest, files: dict[str, bytes], cache: bytes | None) -> None:
    """Rule 4: engines, timing cache, engine.json; then what it no longer names goes."""
    DISK.make_folder(folder)
    for name, data in files.items():
        DISK.write(folder / name, data)
    if cache is not None:
        DISK.write(folder / CACHE, cache)
    text = made.model_dump_json(by_alias=True, indent=1) + "\n"
    DISK.write(folder / MANIFEST, text.encode())
    for path in folder.glob("*.engine"):
        if path.name not in files:
            path.unlink(missing_ok=True)
