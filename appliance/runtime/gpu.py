"""Which bundles run on the GPU: what fits serves, what is missing is built, or why not is kept.

    an engine that fits and has passed its golden cases here      -> gpu
    else, on a machine with a GPU, a build as a child             -> the CPU serves meanwhile
    else                                                          -> the CPU serves, and why is kept

Rules.
1. Whatever is missing or wrong (no GPU, driver, library, kernels, memory; an engine that is
   damaged, was built elsewhere or computes something else) is a named error. With [work] backend =
   "auto" it becomes an EngineState: log, journal, MQTT health and doctor show it. With "gpu" it is
   raised.
2. Nothing of NVIDIA is loaded before a child process has tried it (host/driver.py, trt_engine.py).
3. Golden cases run each time an engine is opened. One that fails them never serves; what served
   before it does.
4. One build at a time, beside the work (engine_build.py). What failed is not tried again until the
   machine changes (engine_shelf.py, rule 3).
5. After an error of the device the CPU serves until this process is started again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from appliance.backend import fatbin, trt_engine
from appliance.backend.gpu import GpuBackend
from appliance.backend.gpu_device import Device
from appliance.backend.open import open_device
from appliance.backend.owner import Owner
from appliance.backend.trt_engine import Library, TrtEngine
from appliance.bundle import golden
from appliance.bundle.manifest import Network
from appliance.bundle.trust import Loaded
from appliance.errors import BackendUnavailable, ScansideError
from appliance.host import driver
from appliance.host.driver import Driver
from appliance.report import Record
from appliance.runtime import engine_build
from appliance.runtime import engine_shelf as engines
from appliance.runtime.engine_build import Build
from appliance.runtime.engine_shelf import EngineShelf, Held, Here

log = logging.getLogger("scanside.work")

UNHIDE = (
    "cp -r systemd/gpu/. /etc/systemd/system/ && systemctl daemon-reload && "
    "systemctl restart 'scanside-work@*' (docs/compile.md)."
)
Service = Literal["ready", "building", "fallback"]


class EngineState(Record):
    """How one bundle is served: detail of the journal's event `engine`."""

    bundle: str
    version: str
    state: Service
    code: str = ""
    """Stable; empty where the GPU serves or an engine is built for the first time."""
    text: str
    remedy: str = ""

    def one_line(self) -> str:
        """For a log, for health."""
        code = f" [{self.code}]" if self.code else ""
        where = {"ready": "gpu", "building": "cpu, building", "fallback": "cpu"}[self.state]
        return f"{self.bundle} {self.version}: {where}: {self.text}{code}"


@dataclass(frozen=True, slots=True)
class Machine:
    """A GPU that may serve, and how engines are opened on it."""

    here: Here
    device: Callable[[], Owner[Device]]
    open: Callable[[Owner[Device], Loaded, Held], GpuBackend]


def this_machine() -> Machine:
    """What is here. BackendUnavailable as `found_gpu`, `fatbin.shipped`, `trt_engine.version`."""
    gpu = found_gpu()
    fatbin.shipped(gpu.architecture, integrated=gpu.integrated)  # else no engine could serve
    version = trt_engine.version()
    here = engines.here(gpu, trt_engine.NAME, version)

    def opened(owner: Owner[Device], loaded: Loaded, held: Held) -> GpuBackend:
        networks: dict[str, Network] = dict(loaded.manifest.networks.items())
        return open_gpu(owner, trt_engine.load(), networks, held)

    return Machine(here, lambda: open_device(gpu), opened)


def open_gpu(
    owner: Owner[Device], library: Library, networks: Mapping[str, Network], held: Held
) -> GpuBackend:
    """A bundle's networks on an open GPU, by engines that the engine shelf vouches for.

    BackendUnavailable `memory_short`, or `engine_damaged` where TensorRT does not take one.
    """
    shapes = {
        role: held.manifest.engines[role].profile.get(
            network.inputs[0].name, (network.inputs[0].shape,) * 3
        )
        for role, network in networks.items()
    }
    return GpuBackend(
        owner,
        networks,
        {role: partial(TrtEngine, library, held.engines[role]) for role in networks},
        shapes,
        engine_digest=held.digest,
        held_bytes=sum(map(len, held.engines.values())),
    )


def found_gpu() -> Driver:
    """The GPU and its driver. BackendUnavailable `no_gpu`, `gpu_hidden` or `driver_old`."""
    if driver.hidden():
        raise BackendUnavailable(
            "the driver of an NVIDIA GPU is loaded, but this process sees no device file of it",
            code="gpu_hidden",
            remedy=f"As a service: {UNHIDE}",
        )
    if not driver.there():
        raise BackendUnavailable("this machine shows no NVIDIA GPU", code="no_gpu", remedy="")
    return driver.recent(driver.probe())


class GpuEngines:
    """The GPU of this process, the backends that are open on it and the build under way."""

    def __init__(
        self,
        state: Path,
        cpu: str,
        *,
        required: bool = False,
        builds: bool = False,
        machine: Callable[[], Machine] = this_machine,
        plan: engine_build.Plan | None = None,
    ) -> None:
        """`cpu`: the backend that serves else. `required`: rule 1, "gpu". `builds`: whether this
        process may build (the work stage alone)."""
        self._state = state
        self._required = required
        self._builds = builds
        self._look = machine
        self._plan = plan or engine_build.plan(cpu)
        self._machine: Machine | ScansideError | None = None
        self._owner: Owner[Device] | None = None
        self._broken: ScansideError | None = None
        self._build: tuple[str, Build] | None = None
        self._to_prove: dict[str, Loaded] = {}
        """By digest: bundles whose build has ended well."""
        self._lock = threading.RLock()
        """Held while an engine is opened, which may be beside the work."""
        self._wanted: dict[str, tuple[Loaded, Path]] = {}
        """By digest: bundles whose engine is to be built, in order."""
        self.states: dict[str, EngineState] = {}
        """By digest of the bundle, as it is now."""

    def open(self, loaded: Loaded, path: Path) -> GpuBackend | None:
        """The GPU backend of a bundle; None where the CPU serves, and `states` has the reason.

        `path`: its file, for a build. BackendUnavailable where the GPU is `required`.
        """
        with self._lock:
            return self._served(loaded, path)

    def _served(self, loaded: Loaded, path: Path) -> GpuBackend | None:
        try:
            machine = self._here()
            shelf = EngineShelf(self._state, loaded.ref)
            backend = self._opened(machine, loaded, shelf.serving(loaded, machine.here))[0]
        except ScansideError as e:
            if self._required:
                raise
            self._instead(loaded, path, e)
            return None
        self._note(loaded, "ready", "its engine is ready")
        if shelf.stale(machine.here):
            self._ask(loaded, path, None)
        return backend

    def follow_build(self) -> tuple[str, ...]:
        """`built`, then `prove`; digests of bundles whose new engine is ready, to be opened."""
        digest = self.built()
        return (digest,) if digest is not None and self.prove(digest) else ()

    def built(self) -> str | None:
        """Follow the build, without waiting; the digest of one whose engine waits for `prove`."""
        if not self._lock.acquire(blocking=False):
            return None  # an engine is being opened
        try:
            if self._build is None:
                self._begin()
                return None
            digest, build = self._build
            loaded, _ = self._wanted[digest]
            error = build.poll()
            if build.running:
                self._note(loaded, "building", build.progress)
                return None
            self._build = None
            del self._wanted[digest]
            if error is not None:
                self._failed(loaded, error)
                return None
            self._to_prove[digest] = loaded
            return digest
        finally:
            self._lock.release()

    def prove(self, digest: str) -> bool:
        """Open what `built` named, on which its golden cases run; whether it serves from now on."""
        with self._lock:
            loaded = self._to_prove.pop(digest, None)
            if loaded is None:
                return False
            try:
                self._prove(loaded)
            except ScansideError as e:
                self._failed(loaded, e)
                return False
            return True

    def _failed(self, loaded: Loaded, error: ScansideError) -> None:
        """A build came to nothing."""
        if isinstance(self._machine, Machine) and self._broken is None:
            EngineShelf(self._state, loaded.ref).fail(error, self._machine.here)
        self._fall_back(loaded, error)

    @property
    def usable(self) -> bool:
        """Whether this machine has a GPU that can serve, whatever becomes of a bundle's engine.
        Known once something was opened."""
        return isinstance(self._machine, Machine) and self._broken is None

    @property
    def busy(self) -> bool:
        """Whether `follow_build` has something to follow."""
        return bool(self._wanted)

    def device_failed(self, loaded_digest: str, error: ScansideError) -> None:
        """The device failed in a study: rule 5."""
        before = self.states.get(loaded_digest)
        if before is not None:
            row = EngineState(
                bundle=before.bundle, version=before.version, state="fallback", code=error.code,
                text=error.text, remedy=error.remedy,
            )  # fmt: skip
            log.error("%s", row.one_line())
            self.states[loaded_digest] = row
        self._broken = error

    def close(self) -> None:
        """End the build and give the GPU back; the backends are closed by whom they belong to."""
        if self._build is not None:
            self._build[1].stop()
            self._build = None
        if self._owner is not None:
            self._owner.stop()
            self._owner = None

    # Inside

    def _here(self) -> Machine:
        if self._broken is not None:
            raise self._broken
        if self._machine is None:
            try:
                self._machine = self._look()
            except ScansideError as e:
                self._machine = e
        if isinstance(self._machine, ScansideError):
            raise self._machine
        return self._machine

    def _opened(
        self, machine: Machine, loaded: Loaded, held: Held
    ) -> tuple[GpuBackend, golden.Gate]:
        """Rule 3. BackendUnavailable `engine_golden`, or as Machine.open."""
        if self._owner is None:
            self._owner = machine.device()
        backend = machine.open(self._owner, loaded, held)
        try:
            gate = golden.gate(loaded, golden.through(backend))
            if not gate.passed:
                raise BackendUnavailable(
                    f"the engine computes something else: {gate.one_line()}",
                    code="engine_golden",
                    remedy=engines.REMEDY,
                )
        except BaseException:
            backend.close()
            raise
        return backend, gate

    def _prove(self, loaded: Loaded) -> None:
        """What was built opens and passes here: it serves from now on."""
        machine = self._here()
        shelf = EngineShelf(self._state, loaded.ref)
        held = shelf.built(loaded, machine.here)
        backend, gate = self._opened(machine, loaded, held)
        size = backend.arena_bytes
        backend.close()  # before what serves now goes: both at a time may not fit
        shelf.accept(held, gate, size)

    def _instead(self, loaded: Loaded, path: Path, error: ScansideError) -> None:
        """The CPU serves: build what can be built, and say why."""
        if isinstance(self._machine, Machine) and self._broken is None:
            failure = EngineShelf(self._state, loaded.ref).failed(self._machine.here)
            if failure is not None:
                known = BackendUnavailable(failure.text, code=failure.code, remedy=failure.remedy)
                self._fall_back(loaded, known)
                return
            if self._builds and error.code.startswith("engine_"):
                self._ask(loaded, path, error)
                return
        self._fall_back(loaded, error)

    def _ask(self, loaded: Loaded, path: Path, error: ScansideError | None) -> None:
        if self._builds and loaded.digest not in self._wanted:
            self._wanted[loaded.digest] = loaded, path
            if error is not None:
                new = error.code == "engine_missing"
                self._note(loaded, "building", error.text, "" if new else error.code)

    def _begin(self) -> None:
        for digest, (loaded, path) in self._wanted.items():
            folder = EngineShelf(self._state, loaded.ref).next
            self._build = digest, Build(self._plan(path, folder))
            return

    def _fall_back(self, loaded: Loaded, error: ScansideError) -> None:
        serving = self.states.get(loaded.digest)
        if serving is not None and serving.state == "ready":
            log.error("%s %s: %s", loaded.ref.name, loaded.ref.version, error.one_line())
            return  # a new build failed; what served goes on
        self._note(loaded, "fallback", error.text, error.code, error.remedy)

    def _note(
        self, loaded: Loaded, state: Service, text: str, code: str = "", remedy: str = ""
    ) -> None:
        ref = loaded.ref
        serving = self.states.get(loaded.digest)
        if state == "building" and serving is not None and serving.state == "ready":
            return  # in another power mode: the GPU serves all the while
        row = EngineState(
            bundle=ref.name, version=ref.version, state=state, code=code, text=text, remedy=remedy
        )
        if self.states.get(loaded.digest) != row:
            log.log(logging.INFO if code in ("", "no_gpu") else logging.ERROR, "%s", row.one_line())
            self.states[loaded.digest] = row
