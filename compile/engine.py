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
6. What is not INT8 is built in float16 (half.py) where types come from the network and its golden
   cases hold in float16 on onnxruntime; else in float32, and the reason is said.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused
from appliance.host import driver, facts, jetson
from appliance.lines.kinds import profile
from appliance.runtime.engine_shelf import CACHE, MANIFEST, Engine, EngineManifest, read
from appliance.store.files import DISK
from compile import tensorrt
from compile.half import lowered
from compile.lint import lint_bundle
from compile.tensorrt import Built, Library

TARGET = re.compile(r"this|rtx:SM\d{2,3}")


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


def build(
    loaded: Loaded,
    wanted: Target,
    folder: Path,
    *,
    lower: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[EngineManifest, tuple[str, ...]]:
    """Every network of a bundle -> engines in `folder`; their manifest, and TensorRT's warnings.

    `lower` False leaves out rule 6. `say` hears what is done next, one line each.
    """
    lint_first(loaded)
    networks = lowered(loaded) if lower and wanted.library.strong else {}
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
        power_mode=jetson.power_mode() if here else None,
        workspace_bytes=tensorrt.WORKSPACE_BYTES,
        timing_cache=None,
        engines={},
    )
    cache = kept_cache(folder, made)
    engines: dict[str, Engine] = {}
    files: dict[str, bytes] = {}
    warnings: list[str] = []
    for number, (role, network) in enumerate(sorted(loaded.manifest.networks.items()), 1):
        lower_one = networks.get(role)
        types = lower_one.types if lower_one else "float32"
        why = f", {lower_one.why}" if lower_one else ""
        say(f"network {number} of {len(loaded.manifest.networks)}: {role} in {types}{why}")
        shapes = profile(role, network, loaded.manifest)
        built: Built = tensorrt.build(
            wanted.library,
            role,
            network,
            lower_one.data if lower_one else loaded.networks[role],
            shapes,
            architecture=wanted.architecture,
            timing_cache=cache,
        )
        cache = built.timing_cache
        warnings += [f"{role}: {warning}" for warning in dict.fromkeys(built.warnings)]
        digest = hashlib.sha256(built.data).hexdigest()
        file = f"{role}-{digest[:16]}.engine"
        files[file] = built.data
        engines[role] = Engine(
            file=file,
            digest=digest,
            bytes=len(built.data),
            onnx_digest=network.digest,
            types=types,
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
