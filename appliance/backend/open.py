"""Opens a backend by its name: the one place that knows them all.

Rules. Only the library of the named backend is imported, and only here and now. What is opened
belongs to the caller, who closes it; several may be open side by side (a bundle is switched so).
The GPU is opened once a process (`open_device`) and the bundles' backends share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from appliance.backend import cpu, fatbin
from appliance.backend.choose import Name
from appliance.backend.device import DeviceError
from appliance.backend.gpu import GpuBackend
from appliance.backend.gpu_device import Device
from appliance.backend.owner import Owner
from appliance.backend.profile import Shapes
from appliance.backend.protocol import Backend
from appliance.backend.trt_engine import Library, TrtEngine
from appliance.bundle.manifest import Network
from appliance.errors import BackendUnavailable
from appliance.host.driver import Driver

LOADERS: dict[Name, cpu.Loader] = {
    "openvino": cpu.load_openvino,
    "onnxruntime": cpu.load_onnxruntime,
}


def open_backend(
    name: Name,
    networks: Mapping[str, Network],
    onnx: Mapping[str, bytes],
    threads: int = 0,
    *,
    pause: Callable[[], object] = lambda: None,
) -> Backend:
    """Load a bundle's networks: role -> manifest entry, role -> bytes of its ONNX file.

    `threads` 0: as many as the library sees cores. `pause` is called before each network; what it
    raises ends the opening. BackendUnavailable where the library is missing
    or broken; BundleRefused (`bundle_network`) where it does not take a network.
    """
    runs: dict[str, cpu.Run] = {}
    for role, network in networks.items():
        pause()
        runs |= LOADERS[name]({role: network}, onnx, threads)
    return cpu.CpuBackend(name, networks, runs)


def open_device(gpu: Driver, code: bytes | None = None) -> Owner[Device]:
    """The GPU that the driver names, with the kernels of this release (or `code`).

    BackendUnavailable: as fatbin.shipped, as PyCuda, or `memory_short`.
    """
    from appliance.backend.cuda_device import PyCuda  # noqa: PLC0415 - see the top

    held = code or fatbin.shipped(gpu.architecture, integrated=gpu.integrated)

    def make() -> Device:
        cuda = PyCuda(held)
        try:
            return Device(cuda)
        except (BackendUnavailable, DeviceError) as e:
            with suppress(DeviceError):
                cuda.close()
            if isinstance(e, BackendUnavailable):
                raise
            raise BackendUnavailable(f"the GPU cannot be opened: {e}", code="gpu_failed") from e

    return Owner(make, Device.close)


def open_engines(
    gpu: Driver,
    library: Library,
    code: bytes,
    networks: Mapping[str, Network],
    plans: Mapping[str, bytes],
    profiles: Mapping[str, Shapes],
) -> GpuBackend:
    """Engines that no shelf vouches for, on a GPU of their own: for tests on one."""
    owner = open_device(gpu, code)
    engines = {role: partial(TrtEngine, library, plans[role]) for role in networks}
    try:
        return GpuBackend(owner, networks, engines, profiles, owns=True)
    except BaseException:
        owner.stop()
        raise
