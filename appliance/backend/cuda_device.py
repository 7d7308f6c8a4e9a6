"""device.Cuda by pycuda, on the primary context: the one that TensorRT uses too.

pycuda is imported when a PyCuda is made and nowhere else, in the owner's thread (owner.py), after a
child process has seen that the driver answers (host/driver.py). Calls: PyCUDA documentation,
"Device Interface". None of this has run on a GPU yet: docs/gpu.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.backend import tables
from appliance.backend.device import ALIGNED, Bytes, DeviceError, Pinned, Stream
from appliance.errors import BackendUnavailable

KERNELS = {
    f"{kind}_f32{ending}": arguments.itemsize
    for kind, arguments in (
        ("prepare", tables.PREPARE),
        ("gather", tables.GATHER),
        ("cubes", tables.CUBES),
    )
    for ending in ("", "_of_f32")
} | {"soften_f32": tables.SOFTEN.itemsize}
"""Kernel -> bytes of its struct."""
REMEDY = (
    "On a Jetson: CUDA_ROOT=/usr/local/cuda pip install --no-binary pycuda pycuda "
    "(jetson/README.md); the CPU backend serves until then."
)


class PyCuda:
    """The first GPU. BackendUnavailable where pycuda is not there or finds no context."""

    def __init__(self, fatbin: bytes) -> None:
        try:
            import pycuda.driver as cuda  # noqa: PLC0415 - only whoever opens a GPU pays for it
        except (ImportError, OSError) as e:
            text = f"pycuda is missing or cannot be loaded: {e}"
            raise BackendUnavailable(text, remedy=REMEDY) from e
        self._cuda: Any = cuda
        self._context: Any = None
        try:
            cuda.init()
            device = cuda.Device(0)
            self._context = device.retain_primary_context()
            self._context.push()
            attribute = cuda.device_attribute
            self.integrated = bool(
                device.get_attribute(attribute.INTEGRATED)
                and device.get_attribute(attribute.CAN_MAP_HOST_MEMORY)
            )
            module = cuda.module_from_buffer(fatbin)
            self._functions = {name: module.get_function(name) for name in KERNELS}
            for name, size in KERNELS.items():
                self._functions[name].prepare([f"{size}s"])  # one struct, by value
            self._streams = {"upload": cuda.Stream(), "compute": cuda.Stream()}
        except cuda.Error as e:
            self.close()
            raise BackendUnavailable(f"the GPU cannot be opened: {e}", remedy=REMEDY) from e
        self._module = module  # its functions do not keep it
        self._held: dict[int, Any] = {}

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._cuda.Error as e:
            raise DeviceError(f"CUDA: {e}") from e

    def allocate(self, size: int) -> int:
        with self._named():
            held = self._cuda.mem_alloc(size)
        at = int(held)
        if at % ALIGNED:
            held.free()
            raise DeviceError(f"CUDA: memory at {at:#x} is not aligned")
        self._held[at] = held
        return at

    def pin(self, size: int) -> Pinned:
        flags = self._cuda.host_alloc_flags.DEVICEMAP if self.integrated else 0
        with self._named():
            host = self._cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)
            device = int(host.base.get_device_pointer()) if self.integrated else None
        return Pinned(host, device)

    def free(self, memory: int | Pinned) -> None:
        with self._named():
            if isinstance(memory, Pinned):
                base: Any = memory.host.base
                base.free()
            else:
                self._held.pop(memory).free()

    def upload(self, at: int, values: Bytes, stream: Stream) -> None:
        with self._named():
            self._cuda.memcpy_htod_async(at, values, self._streams[stream])

    def download(self, values: Bytes, at: int, stream: Stream) -> None:
        with self._named():
            self._cuda.memcpy_dtoh_async(values, at, self._streams[stream])

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: NDArray[np.void],
        stream: Stream,
    ) -> None:
        with self._named():
            self._functions[kernel].prepared_async_call(
                grid, block, self._streams[stream], arguments.tobytes()
            )

    def record(self, stream: Stream) -> Any:
        with self._named():
            event = self._cuda.Event(self._cuda.event_flags.DISABLE_TIMING)
            return event.record(self._streams[stream])

    def after(self, stream: Stream, event: Any) -> None:
        with self._named():
            self._streams[stream].wait_for_event(event)

    def reached(self, event: Any) -> None:
        with self._named():
            event.synchronize()

    def finish(self, stream: Stream) -> None:
        with self._named():
            self._streams[stream].synchronize()

    def handle(self, stream: Stream) -> int:
        return int(self._streams[stream].handle)

    def memory(self) -> int | None:
        if self.integrated:
            return None
        with self._named():
            return int(self._cuda.mem_get_info()[0])

    def close(self) -> None:
        """Pop once what was pushed once, and let the primary context go."""
        context, self._context = self._context, None
        if context is None:
            return
        try:
            self._functions = {}
            self._module = None
            self._streams = {}
            context.pop()
            context.detach()
        except self._cuda.Error as e:
            raise DeviceError(f"CUDA: {e}") from e
