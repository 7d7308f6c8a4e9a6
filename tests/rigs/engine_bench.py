"""A machine with a GPU of the host, a bundle, and a builder of engines that behaves as it is told.

The builder is a program of its own, as in the product; its "engines" are the bundle's ONNX files,
which the engines of host_gpu.py run. So golden cases are really computed, on what was built.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from appliance.backend.gpu import GpuBackend
from appliance.bundle.golden import Gate
from appliance.bundle.trust import Loaded
from appliance.lines.kinds import profile
from appliance.runtime import engine_shelf as engines
from appliance.runtime.engine_shelf import Engine, EngineManifest, EngineShelf, Here
from appliance.runtime.gpu import GpuEngines, Machine
from rigs import host_gpu

HERE = Here(
    library="tensorrt", version="10.16.2", architecture="sm_87", gpu="Orin",
    board="Jetson AGX Orin", power_mode="30W", appliance="0.1.0",
)  # fmt: skip

BUILDER = """
import os, pathlib, shutil, sys, time
made, folder, how = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
print("network 1 of 3: classify", flush=True)
folder.mkdir(parents=True, exist_ok=True)
if how == "refuses":
    sys.exit("noise\\nthe parser refuses node 'Conv_7' [engine_node] Change this node.")
if how == "speaks":
    print("x" * 3_000_000)
    sys.stderr.write("y" * 3_000_000)
if how == "traceback":
    raise RuntimeError("no such thing")
if how == "dies":
    os.abort()
if how == "half":
    (folder / "engine.json").write_bytes((made / "engine.json").read_bytes()[:99])
    os.kill(os.getpid(), 9)
if how == "sleeps":
    (folder / "begun").touch()
    time.sleep(600)
shutil.copytree(made, folder, dirs_exist_ok=True)
print("done", flush=True)
"""


def put(folder: Path, loaded: Loaded, here: Here = HERE, **changed: bytes) -> EngineManifest:
    """Engines of a bundle as a build leaves them; `changed`: other networks than the bundle's."""
    folder.mkdir(parents=True, exist_ok=True)
    built = {}
    for role, network in loaded.manifest.networks.items():
        data = changed.get(role, loaded.networks[role])
        file = f"{role}.engine"
        (folder / file).write_bytes(data)
        built[role] = Engine(
            file=file,
            digest=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            onnx_digest=network.digest,
            profile=profile(role, network, loaded.manifest),
        )
    made = EngineManifest(
        bundle=loaded.ref, target="this", library=here.library, version=here.version,
        typing="strong", architecture=here.architecture, gpu=here.gpu, board=here.board,
        power_mode=here.power_mode, workspace_bytes=1, timing_cache=None, engines=built,
    )  # fmt: skip
    (folder / engines.MANIFEST).write_text(made.model_dump_json(by_alias=True))
    return made


class EngineBench:
    """GpuEngines on a machine with a GPU of the host, and a builder of this behaviour."""

    def __init__(self, kernels: Path, folder: Path, loaded: Loaded) -> None:
        self.kernels, self.folder, self.loaded = kernels, folder, loaded
        self.state = folder / "state"
        self.made = folder / "made"
        self.here = HERE
        self.how = "passes"
        self.looked = 0
        self.opened: list[GpuEngines] = []
        put(self.made, loaded)
        (folder / "builder.py").write_text(BUILDER)

    def machine(self) -> Machine:
        self.looked += 1

        def opened(owner, loaded, held) -> GpuBackend:
            networks = dict(loaded.manifest.networks.items())
            shapes = {
                role: small(held.manifest.engines[role].profile["image"]) for role in networks
            }
            return host_gpu.backend(self.kernels, networks, held.engines, shapes, owner=owner)

        return Machine(self.here, lambda: host_gpu.device(self.kernels), opened)

    def plan(self, bundle: Path, folder: Path):
        how = self.how
        command = [sys.executable, str(self.folder / "builder.py"), str(self.made), str(folder)]
        prove = [sys.executable, "-c", f"import sys; sys.exit({1 if how == 'differs' else 0})"]
        return [*command, how], prove

    def gpu(self, **how) -> GpuEngines:
        made = GpuEngines(
            self.state, "onnxruntime",
            **{"builds": True, "machine": self.machine, "plan": self.plan, **how},
        )  # fmt: skip
        self.opened.append(made)
        return made

    def open(self, engines: GpuEngines) -> GpuBackend | None:
        return engines.open(self.loaded, self.folder / "tiny.scanside")

    def state_of(self, engines: GpuEngines) -> tuple[str, str]:
        row = engines.states[self.loaded.digest]
        return row.state, row.code

    def serve(self) -> None:
        """Engines that fit are ready, as a build has left them."""
        put(self.shelf.next, self.loaded, self.here)
        held = self.shelf.built(self.loaded, self.here)
        self.shelf.accept(held, Gate(passed=True, results=()), 1)

    @property
    def shelf(self) -> EngineShelf:
        return EngineShelf(self.state, self.loaded.ref)


def small(shapes):
    """The profile with a largest shape that a test can run."""
    least, usual, most = shapes
    return least, usual, tuple(min(n, 128) for n in most)
