"""One opened GPU: what the backends of all bundles share, and how a series comes into its memory.

Rules.
1. HU are uploaded, not stored words: the input digest is over HU, so the host has them anyway.
   Integers are uploaded as such; a series with any slice in float32 is uploaded in float32.
2. A series of more slices than the store holds is streamed through it, in the order of the planes.
3. What is left is asked of MemAvailable (host/memory.py) where the GPU shares the host's memory:
   cudaMemGetInfo does not count what the kernel would give back.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.backend import tables
from appliance.backend.device import Cuda, DeviceError
from appliance.backend.gpu_memory import (
    KINDS,
    LEAST_SLICES,
    SLICE_BYTES,
    USUAL_SLICES,
    Staging,
    Store,
    Tables,
)
from appliance.errors import BackendUnavailable
from appliance.host import memory
from appliance.preprocess import plan
from appliance.preprocess.plan import Turn
from appliance.preprocess.spec import Op
from appliance.records import Stack, Vector

log = logging.getLogger("scanside.work")

Available = Callable[[], "int | None"]
STRAIGHT = Turn(swap=False, flip_rows=False, flip_columns=False)
"""A Stack's planes are oriented already."""


class Device:
    """A GPU with what all bundles share: slices, tables, staging. Lives in its owner's thread."""

    def __init__(self, cuda: Cuda, available: Available = memory.available) -> None:
        """BackendUnavailable `memory_short` where not even LEAST_SLICES fit."""
        self.cuda = cuda
        self.available: Available = available if cuda.integrated else cuda.memory
        left = self.available()
        slices = USUAL_SLICES
        if left is not None:  # a quarter of what is there: engines and arenas come on top
            slices = min(slices, (left - memory.RESERVE) // 4 // SLICE_BYTES)
        if slices < LEAST_SLICES:
            raise short("a store of slices", 4 * LEAST_SLICES * SLICE_BYTES, left or 0)
        self.tables = Tables(cuda)
        self.staging = Staging(cuda)
        self.store = Store(cuda, self.staging, slices)

    def require(self, what: str, size: int) -> None:
        """BackendUnavailable `memory_short` where so many bytes are not left beside the reserve."""
        left = self.available()
        if left is not None and left < size + memory.RESERVE:
            raise short(what, size, left)

    def idle(self) -> None:
        """Wait for both streams; errors of what ran come out here."""
        self.cuda.finish("upload")
        self.cuda.finish("compute")

    def close(self) -> None:
        for part in (self.store, self.staging, self.tables, self.cuda):
            try:
                part.close()
            except DeviceError as e:  # a context in which a kernel failed gives nothing back
                log.warning("the GPU closes: %s", e)


def short(what: str, size: int, left: int) -> BackendUnavailable:
    """The error for memory that is not there."""
    return BackendUnavailable(
        f"{what} needs {size >> 20} MB of the GPU's memory; {left >> 20} MB are available, and of "
        f"those {memory.RESERVE >> 20} MB stay free",
        code="memory_short",
        remedy="Give this machine more memory, or stop what else uses it.",
    )


def hold(device: Device, stack: Stack) -> tuple[str, bool, NDArray[np.int32], list[int]]:
    """Ending of the kernels' names, whether the series is streamed, slots, places to upload."""
    whole = all(plane.native.dtype == np.int16 for plane in stack.planes)
    ending = "" if whole else "_of_f32"
    rows, columns = stack.planes[0].native.shape
    device.store.cut((rows, columns), KINDS[ending])
    if len(stack.planes) > device.store.capacity:
        return ending, True, device.store.stream(stack.planes), list(range(len(stack.planes)))
    slots, missing = device.store.hold(stack.planes)
    return ending, False, slots, missing


def nearby(
    device: Device, stack: Stack, ops: Sequence[Op], centers: Sequence[Vector]
) -> NDArray[np.int32]:
    """Slots of a series that is streamed, of which only the planes around one centre are there."""
    read = plan.steps(ops)
    middle = plan.nearest_plane(stack, centers[0])
    reach = 0
    if read.cube is not None:
        closest = float(np.diff(stack.z_mm).min())
        reach = math.ceil(read.cube.size * read.cube.spacing_mm / 2 / closest)
    near = range(max(0, middle - reach - 1), min(len(stack.planes), middle + reach + 2))
    some, missing = device.store.hold([stack.planes[i] for i in near])
    slots = np.zeros(len(stack.planes), np.int32)
    slots[near.start : near.stop] = some
    for i in missing:
        device.store.bring(stack.planes[near[i]], int(some[i]))
    return slots


def raw_of(
    device: Device, stack: Stack, slots: NDArray[np.int32], put: tables.Address
) -> tables.Raw:
    """Rule 1: HU as words with slope 1 and intercept 0, laid out straight, nothing padded."""
    count = len(stack.planes)
    rows, columns = stack.planes[0].native.shape
    return tables.Raw(
        words=device.store.base,
        slot=slots,
        slope=np.ones(count, np.float32),
        intercept=np.zeros(count, np.float32),
        padding=np.tile(np.array(tables.NO_PADDING, np.int32), (count, 1)),
        shape=(rows, columns),
        turn=STRAIGHT,
        signed=True,
    )
