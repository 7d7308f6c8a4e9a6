"""The GPU's memory: one arena a bundle, cut once; tables, staging and the slices of the series.

Rules.
1. Nothing is allocated while a study runs. An arena is sized by the shapes that the engines were
   built for, and cut into inputs, outputs and scratch; a device has one store of slices and one
   place for tables, sized when it is opened.
2. A tensor stays until the arena's inputs have gone round once; one that was overwritten is an
   error by name, never another series' voxels.
3. On an integrated GPU the store and the tables are mapped memory of the host: writing them is the
   upload. On a discrete one both go through page-locked staging.
4. A slice is known by its digest (HU and geometry), so whoever brings it first has uploaded it for
   all networks, and for every bundle. What is not needed longest goes first.
5. A slot is written again only after the kernels that read it are done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.backend.device import ALIGNED, Cuda, Pinned
from appliance.records import Plane

SLICE_BYTES = 512 * 512 * 2
USUAL_SLICES, LEAST_SLICES = 800, 96
"""Of 512 x 512 in the store: 400 MB and 48 MB. A longer series is streamed through it."""
STAGES = 4
"""Slices on their way at a time."""
TABLE_BYTES = 4 << 20
KINDS: Mapping[str, np.dtype[Any]] = {"": np.dtype(np.int16), "_of_f32": np.dtype(np.float32)}
"""Ending of the kernels' names -> the words that they read (kernels.cu, rule 6)."""


def aligned(size: int) -> int:
    """The next multiple of ALIGNED."""
    return -(-size // ALIGNED) * ALIGNED


class Full(Exception):
    """Something does not fit a part of the memory; the text says what."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one network asks of the arena, in bytes, at the largest shape of its engine."""

    image: int
    outputs: tuple[int, ...]
    scratch: int


class Arena:
    """One allocation: inputs, where tensors go round; outputs and scratch, of one run at a time."""

    def __init__(self, cuda: Cuda, needs: Mapping[str, Needs]) -> None:
        self._cuda = cuda
        self.inputs, self.outputs, self.scratch_bytes = self.sizes(needs)
        self._base = cuda.allocate(self.size(needs))
        self._given = 0
        """Bytes of inputs given out since the beginning: what lies further back is overwritten."""

    @staticmethod
    def sizes(needs: Mapping[str, Needs]) -> tuple[int, int, int]:
        """Inputs (one of every network fits), outputs and scratch (of the network with most)."""
        return (
            sum(aligned(n.image) for n in needs.values()),
            max((sum(map(aligned, n.outputs)) for n in needs.values()), default=0),
            max((aligned(n.scratch) for n in needs.values()), default=0),
        )

    @classmethod
    def size(cls, needs: Mapping[str, Needs]) -> int:
        """Bytes of the whole."""
        return max(ALIGNED, sum(cls.sizes(needs)))

    @property
    def scratch(self) -> int:
        return self._base + self.inputs + self.outputs

    def give(self, size: int) -> tuple[int, int]:
        """Room for one input: its address, and a mark by which `holds` knows it. Full."""
        size = aligned(size)
        if size > self.inputs:
            raise Full(f"an input of {size >> 20} MB, the arena has {self.inputs >> 20}")
        at = self._given % self.inputs
        if at + size > self.inputs:  # it is never cut: the rest of this round is left out
            self._given += self.inputs - at
            at = 0
        mark = self._given
        self._given += size
        return self._base + at, mark

    def holds(self, mark: int) -> bool:
        """Whether what was given under this mark has not been given again."""
        return self._given - mark <= self.inputs

    def places(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Addresses for one run's outputs of these bytes. Full."""
        found, at = {}, 0
        for name, size in sizes.items():
            found[name] = self._base + self.inputs + at
            at += aligned(size)
        if at > self.outputs:
            raise Full(f"outputs of {at >> 20} MB, the arena has {self.outputs >> 20}")
        return found

    def between(self, size: int) -> tuple[int, int]:
        """Room that runs alone use, for what a soften op reads: its address, and how many pieces of
        so many bytes it has. It is lost with the next run. Full where not even one fits."""
        room = self.outputs + self.scratch_bytes
        if size > room:
            raise Full(f"{size >> 20} MB to soften at a time, the arena has {room >> 20}")
        return self._base + self.inputs, room // max(size, 1)

    def close(self) -> None:
        self._cuda.free(self._base)


class Tables:
    """Where kernels read what tables.py reckons: filled anew for each call."""

    def __init__(self, cuda: Cuda, size: int = TABLE_BYTES) -> None:
        self._cuda = cuda
        self._host = cuda.pin(size)
        mapped = self._host.device
        self._device = cuda.allocate(size) if mapped is None else mapped
        self._used = 0

    def begin(self) -> None:
        """The last call's tables are read: begin anew."""
        self._used = 0

    def put(self, values: NDArray[Any]) -> int:
        """tables.Address: where the GPU finds these values, once `send` was called. Full."""
        flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        at, self._used = self._used, self._used + aligned(max(1, flat.nbytes))
        if self._used > self._host.host.nbytes:
            raise Full(f"tables of more than {self._host.host.nbytes >> 20} MB")
        self._host.host[at : at + flat.nbytes] = flat
        return self._device + at

    def send(self) -> None:
        """Upload them before what is launched next."""
        if self._host.device is None and self._used:
            self._cuda.upload(self._device, self._host.host[: self._used], "compute")

    def close(self) -> None:
        if self._host.device is None:
            self._cuda.free(self._device)
        self._cuda.free(self._host)


class Staging:
    """Page-locked memory by which arrays go up and come down, `STAGES` pieces at a time."""

    def __init__(self, cuda: Cuda, piece: int = 2 * SLICE_BYTES) -> None:
        self._cuda = cuda
        self._piece = piece
        self._pinned = cuda.pin(STAGES * piece)
        self._busy: list[Any] = [None] * STAGES
        self._next = 0

    def up(self, at: int, values: NDArray[Any]) -> None:
        """Queue an array on the upload stream; it may be changed once this returned."""
        flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        for start in range(0, flat.nbytes, self._piece):
            part = flat[start : start + self._piece]
            stage = self._stage(part.nbytes)
            stage[:] = part
            self._cuda.upload(at + start, stage, "upload")
            self._busy[self._next - 1] = self._cuda.record("upload")

    def down(self, values: NDArray[Any], at: int) -> None:
        """Bring bytes into a contiguous array; waits for what computes and for the copy."""
        flat = values.reshape(-1).view(np.uint8)
        for start in range(0, flat.nbytes, self._piece):
            part = flat[start : start + self._piece]
            stage = self._stage(part.nbytes)
            self._cuda.download(stage, at + start, "compute")
            self._cuda.finish("compute")
            part[:] = stage

    def _stage(self, size: int) -> NDArray[np.uint8]:
        if self._next == STAGES:
            self._next = 0
        busy = self._busy[self._next]
        if busy is not None:
            self._cuda.reached(busy)
            self._busy[self._next] = None
        start = self._next * self._piece
        self._next += 1
        return self._pinned.host[start : start + size]

    def close(self) -> None:
        self._cuda.free(self._pinned)


class Store:
    """The slices of series, in slots of one size; the size of another series cuts it anew."""

    def __init__(self, cuda: Cuda, staging: Staging, slices: int) -> None:
        self._cuda = cuda
        self._staging = staging
        self.bytes = slices * SLICE_BYTES
        self._mapped: Pinned | None = None
        if cuda.integrated:
            self._mapped = cuda.pin(self.bytes)
        mapped = self._mapped.device if self._mapped is not None else None
        self.base = cuda.allocate(self.bytes) if mapped is None else mapped
        self._cut: tuple[tuple[int, int], np.dtype[Any]] | None = None
        self._slots: dict[str, int] = {}
        """Digest -> slot, the one used longest ago first."""
        self._read: Any = None
        """The event behind the kernels that read slots."""

    @property
    def capacity(self) -> int:
        """Slots of the present size."""
        if self._cut is None:
            return 0
        (rows, columns), word = self._cut
        return self.bytes // (rows * columns * word.itemsize)

    def cut(self, shape: tuple[int, int], word: np.dtype[Any]) -> None:
        """Slots for slices of this shape; keeps what is there where they are so already. Full."""
        if self._cut == (shape, word):
            return
        if shape[0] * shape[1] * word.itemsize > self.bytes:
            raise Full(f"a slice of {shape[0]} x {shape[1]} is larger than the store")
        self._cut = shape, word
        self._slots.clear()

    def takes(self, plane: Plane, word: np.dtype[Any]) -> None:
        """One slice on its arrival. Where the store is cut for another size it is left for later:
        two series that arrive side by side must not empty it in turn."""
        shape = plane.native.shape[0], plane.native.shape[1]
        if self._slots and self._cut != (shape, word):
            return
        self.cut(shape, word)
        if plane.digest in self._slots:
            return
        full = len(self._slots) == self.capacity
        slot = self._slots.pop(next(iter(self._slots))) if full else len(self._slots)
        self._write(plane, slot)
        self._slots[plane.digest] = slot

    def hold(self, planes: Sequence[Plane]) -> tuple[NDArray[np.int32], list[int]]:
        """Slots [planes] for all of these, and the places of those not uploaded yet (`bring`).

        Full where there are more than the store holds: they are streamed by `stream`.
        """
        if len(planes) > self.capacity:
            raise Full(f"{len(planes)} slices, the store has {self.capacity} slots")
        wanted = {plane.digest for plane in planes}
        # slots in use are always the first ones: what is evicted is used again at once
        free = list(range(len(self._slots), self.capacity))
        idle = [digest for digest in self._slots if digest not in wanted]
        slots = np.zeros(len(planes), np.int32)
        missing = []
        for i, plane in enumerate(planes):
            slot = self._slots.pop(plane.digest, None)
            if slot is None:
                missing.append(i)
                slot = free.pop(0) if free else self._slots.pop(idle.pop(0))
            self._slots[plane.digest] = slot
            slots[i] = slot
        return slots, missing

    def stream(self, planes: Sequence[Plane]) -> NDArray[np.int32]:
        """Slots for more slices than there is room for: each is overwritten in its turn."""
        self.forget()
        return np.arange(len(planes), dtype=np.int32) % self.capacity

    def bring(self, plane: Plane, slot: int) -> None:
        """Upload a slice into its slot."""
        self._write(plane, slot)

    def forget(self) -> None:
        """Whatever is there counts as not uploaded."""
        self._slots.clear()

    def uploaded(self) -> None:
        """What computes next waits for the uploads so far."""
        self._cuda.after("compute", self._cuda.record("upload"))

    def used(self) -> None:
        """What was launched so far reads slots (rule 5)."""
        self._read = self._cuda.record("compute")

    def _write(self, plane: Plane, slot: int) -> None:
        if self._cut is None:
            raise Full("the store is not cut")
        shape, word = self._cut
        size = shape[0] * shape[1] * word.itemsize
        values = np.ascontiguousarray(plane.native, word)
        read, self._read = self._read, None
        if self._mapped is not None:
            if read is not None:
                self._cuda.reached(read)
            at = slot * size
            self._mapped.host[at : at + size] = values.reshape(-1).view(np.uint8)
            return
        if read is not None:
            self._cuda.after("upload", read)
        self._staging.up(self.base + slot * size, values)

    def close(self) -> None:
        self._cuda.free(self.base if self._mapped is None else self._mapped)


def nbytes(shape: Sequence[int], word: np.dtype[Any]) -> int:
    """Bytes of an array."""
    return math.prod(shape) * word.itemsize
