"""What a backend is: it knows tensors only, never slices' meaning or findings.

`prepare` and `infer` belong to one backend, so a tensor never has to leave its memory. The numpy
reference (preprocess/reference.py) defines what `prepare` and `gather` give; a backend matches it
within TOLERANCE. Precision is pinned, never left to a library's default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess.spec import Op
from appliance.records import Box, Grid, Plane, Stack, Tensor, Vector
from appliance.report import BackendRef

TOLERANCE = 2e-3
"""Largest difference from the reference, in units of a windowed input (0..1)."""


class Backend(Protocol):
    """One open backend with the networks of one bundle loaded."""

    @property
    def ref(self) -> BackendRef: ...

    def prepare(self, stack: Stack, ops: Sequence[Op], crop: tuple[Grid, Box] | None) -> Tensor:
        """A stack -> [1, 1, z, y, x] tensor. `crop` is the box that a `crop` op asks for, margin
        and all: on the grid of the mask that it was found on; not looked at without one."""
        ...

    def gather(
        self,
        stack: Stack,
        ops: Sequence[Op],
        centers: Sequence[Vector],
        views: Literal[1, 2, 4, 8] = 1,
    ) -> Tensor:
        """Patches around LPS centres, native pixels: [n * views, 1, size, size], each centre's
        flips and quarter turns side by side (reference.views). Of a `cube` op: cubes
        [n, 1, size, size, size], with one view."""
        ...

    def infer(
        self, role: str, image: Tensor | Mapping[str, Tensor]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Run the network of this role; outputs by name, on the host, padding still on. `image` is
        of this backend, or holds a float32 array of the host: radiographs, golden cases. Of a
        network with several inputs it is a mapping: each input by its name.

        Poisoned (`backend_failed`) where the library fails or an output is not finite."""
        ...

    def rest(self) -> None:
        """Give back the memory that the last input left; the next one is slower by some 70 ms."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Takes(Protocol):
    """A backend that can use a slice's time of arrival: a GPU uploads it then."""

    def take(self, plane: Plane) -> None:
        """A slice that `prepare` will ask for; returns at once, never raises."""
        ...


@runtime_checkable
class Begins(Protocol):
    """A backend that infers beside its caller, one call of each role at a time."""

    def begin(
        self, role: str, image: Tensor | Mapping[str, Tensor]
    ) -> Callable[[], Mapping[str, NDArray[np.float32]]]:
        """`infer`, begun; what is returned waits for its end. `image` stays as it is until then."""
        ...


def begun(
    backend: Backend, role: str, image: Tensor
) -> Callable[[], Mapping[str, NDArray[np.float32]]]:
    """`infer`, beside the caller where the backend can."""
    if isinstance(backend, Begins):
        return backend.begin(role, image)
    outputs = backend.infer(role, image)
    return lambda: outputs


@runtime_checkable
class Pointwise(Protocol):
    """Outputs of which some voxels can be judged for less than all of them."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an output, [1, channels, z, y, x]."""
        ...

    def highest(self, name: str, voxels: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """As `highest` below says it of an output."""
        ...


def highest(output: NDArray[np.float32], voxels: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """[z, y, x]: the channel of an output [1, channels, z, y, x] with the largest value, of equal
    ones the first, of each of the set voxels; 0 elsewhere. `voxels` may lack the padding at the far
    ends."""
    z, y, x = voxels.shape
    found = np.zeros(voxels.shape, np.uint8)
    found[voxels] = np.argmax(output[0, :, :z, :y, :x][:, voxels], axis=0)
    return found
