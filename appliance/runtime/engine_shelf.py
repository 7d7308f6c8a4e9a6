"""The engine shelf: TensorRT engines that this device built of its bundles, and which may serve.

    state/engines/<bundle digest, 16>/a|b/   engine.json, the engines, timing.cache (compile/engine)
    state/engines/<bundle digest, 16>/ready.json    which of the two serves: proved on this device
    state/engines/<bundle digest, 16>/failed.json   why the last build did not lead to one

Rules.
1. An engine is for one bundle, TensorRT version, architecture, GPU, board and shapes: what was
   built elsewhere (`engine_elsewhere`) or is damaged (`engine_damaged`) is never given to TensorRT,
   which has no call that asks a plan without loading it. Only the power mode may differ: it serves,
   and is built anew.
2. A new build goes into the folder that does not serve. ready.json, written last, turns to it only
   once its golden cases have passed here; until then, and if they never do, the old one serves.
3. A build that failed is not tried again while nothing has changed that could mend it: the machine
   as `Here` says, and the appliance's version. Removing failed.json asks for another try.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from appliance.backend.profile import Shapes
from appliance.bundle.golden import Gate
from appliance.bundle.manifest import FileName, Manifest
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, BundleRefused, ScansideError
from appliance.host import facts, jetson
from appliance.host.driver import Driver
from appliance.lines.kinds import profile
from appliance.report import BundleRef, Digest, Record
from appliance.store.files import DISK, Disk

MANIFEST = "engine.json"
CACHE = "timing.cache"
READY, FAILED = "ready.json", "failed.json"
Side = Literal["a", "b"]
REMEDY = (
    "It is built again by itself where [work] backend is auto; the CPU backend serves until then."
)


class Engine(Record):
    """One network's engine, beside engine.json."""

    file: FileName
    digest: Digest
    bytes: int
    onnx_digest: Digest
    """Of the signed network; what was built may be that network in float16 (`types`)."""
    types: Literal["float32", "float16"] = "float32"
    """Of all that is not INT8."""
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


class Here(Record):
    """This machine, as far as an engine is bound to it."""

    library: str
    version: str
    architecture: str
    gpu: str
    board: str | None
    power_mode: str | None
    appliance: str


class Ready(Record):
    """ready.json."""

    side: Side
    manifest: Digest
    """SHA-256 of its engine.json."""
    gate: Gate
    arena_bytes: int
    """What the opened backend took of the GPU's memory, its engines apart."""


class Failure(Record):
    """failed.json."""

    code: str
    text: str
    remedy: str
    here: Here


@dataclass(frozen=True, slots=True)
class Held:
    """Engines that fit this machine, checked and in memory."""

    manifest: EngineManifest
    digest: str
    """SHA-256 of engine.json."""
    engines: Mapping[str, bytes]


Row = TypeVar("Row", bound=Record)


def here(gpu: Driver, library: str, version: str) -> Here:
    """This machine now, with this TensorRT."""
    return Here(
        library=library,
        version=version,
        architecture=gpu.architecture,
        gpu=gpu.name,
        board=facts.model(),
        power_mode=jetson.power_mode(),
        appliance=facts.version(),
    )


def read(folder: Path) -> EngineManifest | None:
    """engine.json of a folder; None where there is none that can be read."""
    return _row(folder / MANIFEST, EngineManifest)


def misfits(made: EngineManifest, bundle: BundleRef, of: Manifest, now: Here) -> tuple[str, ...]:
    """What of rule 1 does not fit, each as `what: built for this, here is that`."""
    found = [
        f"{name}: built for {built}, here is {is_now}"
        for name, built, is_now in (
            ("bundle", made.bundle.digest[:12], bundle.digest[:12]),
            ("library", made.library, now.library),
            ("version", made.version, now.version),
            ("architecture", made.architecture, now.architecture),
            ("GPU", made.gpu, now.gpu),
            ("board", made.board, now.board),
        )
        if built != is_now
    ]
    for role, network in of.networks.items():
        engine = made.engines.get(role)
        if engine is None:
            found.append(f"network {role}: it has no engine")
        elif engine.onnx_digest != network.digest:
            found.append(f"network {role}: built of another ONNX file")
        elif engine.profile != profile(role, network, of):
            found.append(f"network {role}: built for other shapes")
    return tuple(found)


def load(folder: Path, loaded: Loaded, now: Here) -> Held:
    """The engines of a folder, by rule 1. BackendUnavailable `engine_missing`, `engine_damaged` or
    `engine_elsewhere`."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as e:
        raise _refused(f"no engine of {loaded.ref.name} is built here", "engine_missing") from e
    try:
        made = EngineManifest.stored(data)
    except ValidationError as e:
        raise _refused(f"{folder / MANIFEST} is damaged", "engine_damaged") from e
    try:
        wrong = misfits(made, loaded.ref, loaded.manifest, now)
    except BundleRefused as e:
        raise _refused(e.text, e.code) from e
    if wrong:
        raise _refused(f"{folder}: {'; '.join(wrong)}", "engine_elsewhere")
    engines: dict[str, bytes] = {}
    for role, engine in made.engines.items():
        try:
            held = (folder / engine.file).read_bytes()
        except OSError as e:
            raise _refused(f"{folder / engine.file}: {e.strerror}", "engine_damaged") from e
        if len(held) != engine.bytes or hashlib.sha256(held).hexdigest() != engine.digest:
            text = f"{folder / engine.file} is not what was built: {len(held)} of {engine.bytes} "
            raise _refused(f"{text}bytes, or other ones", "engine_damaged")
        engines[role] = held
    return Held(made, hashlib.sha256(data).hexdigest(), engines)


class EngineShelf:
    """The engines of one bundle below the state folder. Every call reads the disk anew."""

    def __init__(self, state: Path, bundle: BundleRef, disk: Disk = DISK) -> None:
        self.folder = state / "engines" / bundle.digest[:16]
        self._disk = disk

    @property
    def ready(self) -> Ready | None:
        """What serves, if anything does."""
        return _row(self.folder / READY, Ready)

    @property
    def next(self) -> Path:
        """Where a new build goes (rule 2)."""
        serving = self.ready
        return self.folder / ("b" if serving is not None and serving.side == "a" else "a")

    def serving(self, loaded: Loaded, now: Here) -> Held:
        """The engines that may serve. BackendUnavailable as `load`."""
        row = self.ready
        if row is None:
            raise _refused(f"no engine of {loaded.ref.name} is ready here", "engine_missing")
        held = load(self.folder / row.side, loaded, now)
        if held.digest != row.manifest:
            text = f"{self.folder / row.side}: its {MANIFEST} is not the one that was proved here"
            raise _refused(text, "engine_damaged")
        return held

    def built(self, loaded: Loaded, now: Here) -> Held:
        """The engines of a new build that waits to be proved. BackendUnavailable as `load`."""
        return load(self.next, loaded, now)

    def stale(self, now: Here) -> bool:
        """Whether what serves was built in another power mode."""
        row = self.ready
        made = read(self.folder / row.side) if row is not None else None
        return made is not None and made.power_mode != now.power_mode

    def accept(self, held: Held, gate: Gate, arena_bytes: int) -> None:
        """The new build serves from now on; what served before goes. ValueError if it failed."""
        if not gate.passed:
            raise ValueError("golden cases did not pass")
        side: Side = "b" if self.next.name == "b" else "a"
        row = Ready(side=side, manifest=held.digest, gate=gate, arena_bytes=arena_bytes)
        self._write(READY, row)
        self._disk.remove(self.folder / FAILED)
        self._drop("a" if side == "b" else "b")

    def failed(self, now: Here) -> Failure | None:
        """Why no build is tried (rule 3); None where one may be."""
        row = _row(self.folder / FAILED, Failure)
        return row if row is not None and row.here == now else None

    def fail(self, error: ScansideError, now: Here) -> None:
        """A build came to nothing. What serves goes on."""
        self._drop(self.next.name)
        row = Failure(code=error.code, text=error.text, remedy=error.remedy, here=now)
        self._write(FAILED, row)

    def _write(self, name: str, row: Record) -> None:
        self._disk.make_folder(self.folder)
        self._disk.write(self.folder / name, row.model_dump_json(by_alias=True).encode() + b"\n")

    def _drop(self, side: str) -> None:
        """Engines and their manifest; the timing cache alone is of use to nobody."""
        with suppress(OSError):
            shutil.rmtree(self.folder / side)


def prune(state: Path, digests: set[str]) -> None:
    """Remove the engines of bundles that are on the shelf no more."""
    kept = {digest[:16] for digest in digests}
    with suppress(OSError):
        for folder in (state / "engines").iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _row(path: Path, kind: type[Row]) -> Row | None:
    try:
        return kind.stored(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _refused(text: str, code: str) -> BackendUnavailable:
    return BackendUnavailable(text, code=code, remedy=REMEDY)
