"""An output of a transposed convolution whose kernel is as large as its stride: each cell of
features gives a block of voxels of its own, and no two blocks overlap.

Rules.
1. A voxel's values are one product of its cell's features with the weights of its place in the
   block (ONNX operators, ConvTranspose), so those of some voxels cost as little as these are few.
   Of a chest CT the lungs are a tenth.
2. Voxels beyond the cells have no values.
3. No product is so large that the linear algebra below shares it out among threads
   (preprocess/fast.py): these would wait for the threads of the network that runs beside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess.fast import SHARED_OUT

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Kernel:
    """What makes blocks of features."""

    weights: F32
    """[features, channels, side, side, side]."""
    bias: F32
    """[channels]."""

    @property
    def channels(self) -> int:
        """Of the output."""
        return int(self.weights.shape[1])

    @property
    def side(self) -> int:
        """Of a block, in voxels."""
        return int(self.weights.shape[2])

    def rows(self) -> F32:
        """[channels * places in a block, features]."""
        flat = self.weights.reshape(len(self.weights), -1)
        return np.ascontiguousarray(flat.T)


@dataclass(frozen=True, slots=True)
class Blocks:
    """One output, not made yet."""

    features: F32
    """[1, features, z, y, x] of cells."""
    kernel: Kernel

    @property
    def shape(self) -> tuple[int, ...]:
        """[1, channels, z, y, x] of the output."""
        side = self.kernel.side
        return (1, self.kernel.channels, *(n * side for n in self.features.shape[2:]))

    def whole(self) -> F32:
        """The output."""
        cells, side = self.features.shape[2:], self.kernel.side
        values = self._values(self.features[0].reshape(len(self.features[0]), -1))
        blocks = values.reshape(self.kernel.channels, side, side, side, *cells)
        return np.ascontiguousarray(blocks.transpose(0, 4, 1, 5, 2, 6, 3)).reshape(self.shape)

    def highest(self, voxels: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """[z, y, x]: the channel with the largest value of each set voxel, of equal ones the
        first; 0 elsewhere. ValueError for voxels beyond the output."""
        if any(n > most for n, most in zip(voxels.shape, self.shape[2:], strict=True)):
            raise ValueError(f"voxels {voxels.shape} reach beyond the output {self.shape}")
        side, shape = self.kernel.side, self.shape[2:]
        whole = np.zeros(shape, np.bool_)
        inside = tuple(slice(n) for n in voxels.shape)
        whole[inside] = voxels
        places = list(np.ndindex(side, side, side))
        asked = np.zeros(self.features.shape[2:], np.bool_)
        for place in places:
            asked |= whole[tuple(slice(k, None, side) for k in place)]
        cells = np.flatnonzero(asked)
        flat = self.features[0].reshape(len(self.features[0]), -1)
        values = self._values(np.take(flat, cells, axis=1))
        values = values.reshape(self.kernel.channels, len(places), len(cells))
        best, channel = values[0], np.zeros(values.shape[1:], np.uint8)
        for number, other in enumerate(values[1:], start=1):
            np.putmask(channel, other > best, number)
            best = np.maximum(best, other)
        z, y, x = (axis * side for axis in np.unravel_index(cells, asked.shape))
        first = (z * shape[1] + y) * shape[2] + x
        found = np.zeros(shape, np.uint8)
        for (dz, dy, dx), of_place in zip(places, channel, strict=True):
            found.reshape(-1)[first + ((dz * shape[1] + dy) * shape[2] + dx)] = of_place
        return np.asarray(found[inside] * voxels, np.uint8)

    def _values(self, features: F32) -> F32:
        """[channels * places, n] of features [features, n]."""
        rows, bias = self.kernel.rows(), np.repeat(self.kernel.bias, self.kernel.side**3)
        values = np.empty((len(rows), features.shape[1]), np.float32)
        step = max(1, SHARED_OUT // rows.size)
        for first in range(0, features.shape[1], step):
            part = slice(first, first + step)
            np.matmul(rows, features[:, part], out=values[:, part])
        values += bias[:, None]
        return values
