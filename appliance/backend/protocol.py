"""What a backend is: it knows tensors only, never slices' meaning or findings.

`prepare` and `infer` belong to one backend, so a tensor never has to leave its memory. The numpy
reference (preprocess/reference.py) defines what `prepare` and `gather` give; a backend matches it
within TOLERANCE. Precision is pinned, never left to a library's default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess.spec import Op
from appliance.records import Box, Grid, Stack, Tensor, Vector
from appliance.report import BackendRef

TOLERANCE = 2e-3
"""Largest difference from the reference, in units of a windowed input (0..1)."""


class Backend(Protocol):
    """One open backend with the networks of one bundle loaded."""

    @property
    def ref(self) -> BackendRef: ...

    def prepare(self, stack: Stack, ops: Sequence[Op], crop: tuple[Grid, Box] | None) -> Tensor:
        """A stack -> [1, 1, z, y, x] tensor. `crop` is the box that a `crop` op asks for: on the
        grid of the mask that it was found on; None when no crop op is in `ops`."""
        ...

    def gather(self, stack: Stack, ops: Sequence[Op], centers: Sequence[Vector]) -> Tensor:
        """Patches around LPS centres, native pixels: [n, 1, size, size]."""
        ...

    def infer(self, role: str, image: Tensor) -> Mapping[str, NDArray[np.float32]]:
        """Run the network of this role; outputs by name, on the host, padding still on."""
        ...

    def close(self) -> None: ...
