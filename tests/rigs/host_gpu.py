"""A GPU that is none: device.Cuda and device.Engine on the host, for tests of what lies between.

Memory is allocated, copies copy, and the kernels are those of kernels.cu, compiled by
host_shim.h. An engine is the network in onnxruntime, reading its input from where it is told and
writing its outputs to where it is told. What cannot be shown here: docs/gpu.md.

What is queued is done at once, but on the `lazy` stream, which works as late as a GPU may: when
somebody waits for it. So a kernel that is launched before its slices were waited for computes on
what lay there before, and a slot or table that is filled again too early spoils what is queued.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import appliance.backend
from appliance.backend import cpu
from appliance.backend.device import ALIGNED, DeviceError, EngineError, Pinned
from appliance.backend.gpu import GpuBackend
from appliance.backend.gpu_device import Device
from appliance.backend.owner import Owner

SOURCE = Path(appliance.backend.__file__).parent / "kernels.cu"
GXX = shutil.which("g++") or ""
MOST = 1 << 34


def build(folder: Path) -> Path:
    """The kernels as a library of the host."""
    out = folder / "kernels.so"
    flags = ["-x", "c++", "-std=c++17", "-O2", "-shared", "-fPIC", f"-I{SOURCE.parent}"]
    subprocess.run([GXX, *flags, str(SOURCE), "-o", str(out)], check=True, timeout=120)
    return out


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kernels.cu as a library of the host: a fixture for a conftest to import."""
    if not GXX:
        pytest.skip("g++ is not installed: the kernels cannot be compiled for the host")
    return build(tmp_path_factory.mktemp("kernels"))


class HostCuda:
    """device.Cuda. `log` holds what was asked, in order."""

    def __init__(
        self, library: Path, *, integrated: bool = False, lazy: str = "", left: int = MOST
    ) -> None:
        self.library = ctypes.CDLL(str(library))
        self.integrated = integrated
        self.left = left
        self.held: dict[int, np.ndarray] = {}
        self.log: list[str] = []
        self.fails: str | None = None
        self.closed = False
        self._lazy = lazy
        self._queue: list[Callable[[], None]] = []
        """Of the lazy stream, what is not done yet."""
        self._done = 0
        self._thread = threading.get_ident()

    def _asked(self, what: str) -> None:
        assert threading.get_ident() == self._thread, "called from another thread"
        assert not self.closed, "called after close"
        self.log.append(what)
        if self.fails is not None and what.startswith(self.fails):
            raise DeviceError(f"CUDA: an illegal memory access was encountered in {what}")

    def _queued(self, stream: str, work: Callable[[], None]) -> None:
        if stream == self._lazy:
            self._queue.append(work)
        else:
            work()

    def _catch_up(self, stream: str, until: int | None = None) -> None:
        while stream == self._lazy and self._queue and (until is None or self._done < until):
            self._queue.pop(0)()
            self._done += 1

    def allocate(self, size: int) -> int:
        self._asked("allocate")
        if size > self.left:
            raise DeviceError("CUDA: out of memory")
        self.left -= size
        whole = np.full(size + ALIGNED, 0x5A, np.uint8)
        at = -(-whole.ctypes.data // ALIGNED) * ALIGNED
        self.held[at] = whole
        return at

    def pin(self, size: int) -> Pinned:
        self._asked("pin")
        host = np.full(size, 0x5A, np.uint8)
        return Pinned(host, host.ctypes.data if self.integrated else None)

    def free(self, memory: int | Pinned) -> None:
        self._asked("free")
        if isinstance(memory, int):
            self.left += self.held.pop(memory).size - ALIGNED

    def _inside(self, at: int, size: int) -> None:
        assert any(
            base <= at and at + size <= whole.ctypes.data + whole.size
            for base, whole in self.held.items()
        ), "outside of what was allocated"

    def upload(self, at: int, values: np.ndarray, stream: str) -> None:
        self._asked(f"upload {stream}")
        self._inside(at, values.nbytes)

        self._queued(stream, lambda: ctypes.memmove(at, values.ctypes.data, values.nbytes))

    def download(self, values: np.ndarray, at: int, stream: str) -> None:
        self._asked("download")
        self._inside(at, values.nbytes)
        self._queued(stream, lambda: ctypes.memmove(values.ctypes.data, at, values.nbytes))

    def launch(self, kernel, grid, block, told, stream) -> None:
        self._asked(f"launch {kernel}")
        assert max(grid) < 65_536
        three = ctypes.c_uint * 3
        told = told.copy()  # a launch takes its arguments by value
        run = getattr(self.library, f"host_{kernel}")
        self._queued(
            stream,
            lambda: run(three(*grid), three(*block), ctypes.c_void_p(told.ctypes.data)),
        )

    def record(self, stream: str) -> tuple[str, int]:
        self._asked(f"record {stream}")
        return stream, self._done + len(self._queue)

    def after(self, stream: str, event: tuple[str, int]) -> None:
        self._asked(f"after {stream}")
        if stream != event[0]:
            self._catch_up(*event)

    def reached(self, event: tuple[str, int]) -> None:
        self._asked("reached")
        self._catch_up(*event)

    def finish(self, stream: str) -> None:
        self._asked(f"finish {stream}")
        self._catch_up(stream)

    def handle(self, stream: str) -> int:
        return {"upload": 1, "compute": 2}[stream]

    def memory(self) -> int | None:
        return None if self.integrated else self.left

    def close(self) -> None:
        self._asked("close")
        assert not self.held, "memory was not given back"
        self.closed = True


class HostEngine:
    """device.Engine: onnxruntime on addresses."""

    scratch_bytes = 1 << 12

    def __init__(self, role, network, onnx: bytes) -> None:
        self._run = cpu.load_onnxruntime({role: network}, {role: onnx}, 1)[role]
        self.outputs = {port.name: np.dtype(np.float32) for port in network.outputs}
        self._shape: tuple[int, ...] = ()
        self.errors: list[str] = []
        self.closed = False

    def shapes(self, shape: Sequence[int]) -> Mapping[str, tuple[int, ...]]:
        """As onnxruntime finds them with an empty image; nothing else of TensorRT is imitated."""
        self._shape = tuple(shape)
        try:
            found = self._run(np.zeros(self._shape, np.float32))
        except cpu.LibraryError as e:
            raise EngineError(str(e)) from e
        return {name: array.shape for name, array in found.items()}

    def run(self, stream: int, image: int, outputs: Mapping[str, int], scratch: int) -> None:
        assert stream == 2
        assert not any(at % ALIGNED for at in (image, scratch, *outputs.values()))
        if self.errors:
            raise EngineError(f"TensorRT: {self.errors[0]}")
        size = math.prod(self._shape)
        held = np.ctypeslib.as_array((ctypes.c_float * size).from_address(image))
        for name, array in self._run(held.reshape(self._shape)).items():
            flat = np.ascontiguousarray(array, np.float32)
            ctypes.memmove(outputs[name], flat.ctypes.data, flat.nbytes)

    def close(self) -> None:
        self.closed = True


def device(library, *, available: int = 512 << 20, **cuda) -> Owner[Device]:
    """A device of the host that has so much memory: a store of 64 MB, unless told otherwise."""
    cuda.setdefault("left", available)
    return Owner(lambda: Device(HostCuda(library, **cuda), lambda: available), Device.close)


def backend(library, networks, onnx, profiles, *, owner=None, **cuda) -> GpuBackend:
    """An open GpuBackend of the host; with an owner of its own unless one is given."""
    made = owner or device(library, **cuda)
    engines = {
        role: (lambda role=role: HostEngine(role, networks[role], onnx[role])) for role in networks
    }
    try:
        return GpuBackend(made, networks, engines, profiles, owns=owner is None)
    except BaseException:
        if owner is None:
            made.stop()
        raise
