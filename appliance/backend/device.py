"""What the GPU backend needs of CUDA and of TensorRT, and no more: two protocols, two errors.

cuda_device.py and trt_engine.py are the real ones, one small file each; the tests have others that
compute on the host. So everything between them is proved where there is no GPU.

Rules.
1. Addresses are plain integers, streams and events are opaque. Every call comes from one thread,
   the one that opened the device (owner.py).
2. What is queued on a stream runs in order; an array that is being uploaded or filled is not
   touched before the stream was waited for.
3. Whatever the library raises comes out as DeviceError or EngineError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Stream = Literal["upload", "compute"]
Bytes = NDArray[np.uint8]
ALIGNED = 256
"""Of every address (CUDA C++ Programming Guide, "Device Memory Accesses"; TensorRT's scratch)."""


class DeviceError(Exception):
    """What CUDA said when it failed; never leaves the backend."""


class EngineError(Exception):
    """What TensorRT said when it failed, or wrote as an error into its log; never leaves it."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """Page-locked memory of the host."""

    host: Bytes
    device: int | None
    """Where the GPU sees the same bytes; None where they must be copied (a discrete GPU)."""


class Cuda(Protocol):
    """A GPU's primary context, its kernels loaded, and two streams."""

    @property
    def integrated(self) -> bool:
        """Whether the GPU shares the host's memory (CU_DEVICE_ATTRIBUTE_INTEGRATED)."""
        ...

    def allocate(self, size: int) -> int:
        """Device memory of so many bytes, ALIGNED."""
        ...

    def pin(self, size: int) -> Pinned:
        """Page-locked host memory; mapped where the GPU is integrated."""
        ...

    def free(self, memory: int | Pinned) -> None: ...

    def upload(self, at: int, values: Bytes, stream: Stream) -> None:
        """Host (pinned) to device, asynchronous."""
        ...

    def download(self, values: Bytes, at: int, stream: Stream) -> None:
        """Device to host (pinned), asynchronous."""
        ...

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: NDArray[np.void],
        stream: Stream,
    ) -> None:
        """A kernel of kernels.cu with its one struct."""
        ...

    def record(self, stream: Stream) -> Any:
        """An event behind what is queued on a stream so far."""
        ...

    def after(self, stream: Stream, event: Any) -> None:
        """What is queued on this stream from now on waits for the event."""
        ...

    def reached(self, event: Any) -> None:
        """Wait, on the host, for an event."""
        ...

    def finish(self, stream: Stream) -> None:
        """Wait, on the host, for all of a stream; errors of what ran on it come out here."""
        ...

    def handle(self, stream: Stream) -> int:
        """The stream as the CUDA API names it, for TensorRT."""
        ...

    def memory(self) -> int | None:
        """Bytes that the GPU still has; None where it shares the host's (ask MemAvailable)."""
        ...

    def close(self) -> None: ...


class Engine(Protocol):
    """One network's engine, deserialised, with its execution context."""

    @property
    def scratch_bytes(self) -> int:
        """Device memory that one run needs beside its ports."""
        ...

    @property
    def outputs(self) -> Mapping[str, np.dtype[Any]]:
        """Names and types of the outputs."""
        ...

    def shapes(self, shape: Sequence[int]) -> Mapping[str, tuple[int, ...]]:
        """The outputs' shapes for an input of this shape, which the next `run` has."""
        ...

    def run(self, stream: int, image: int, outputs: Mapping[str, int], scratch: int) -> None:
        """Queue one run on a stream: where its input lies and where its outputs go."""
        ...

    def close(self) -> None: ...


class Profiled(Engine, Protocol):
    """An engine that can say how long each of its layers takes; for measuring alone."""

    def layers_ms(
        self, stream: int, image: int, outputs: Mapping[str, int], scratch: int
    ) -> Mapping[str, float]:
        """One run, waited for: layer -> milliseconds, in the order of the run. A layer is told by
        its name and, where it is known, the nodes of the network that it is made of.

        EngineError where the library cannot say."""
        ...
