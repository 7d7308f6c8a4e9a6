"""An output of a transposed convolution whose kernel is as large as its stride: each cell of
features gives a block of voxels of its own, and no two blocks overlap.

Rules.
1. A voxel's values are one product of its cell's features with the weights of its place in the
   block (ONNX operators, ConvTranspose), so those of some voxels cost as little as these are few.
   Of a chest CT the lungs are a tenth.
2. Voxels outside the cells have no values; who asks for one gets a ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

    def at(self, voxels: NDArray[np.bool_]) -> F32:
        """Values [channels, n] of the set voxels [z, y, x], in their order."""
        side, (depth, rows, columns) = self.kernel.side, self.features.shape[2:]
        if any(n > most for n, most in zip(voxels.shape, self.shape[2:], strict=True)):
            raise ValueError(f"voxels {voxels.shape} reach beyond the output {self.shape}")
        at = np.unravel_index(np.flatnonzero(voxels), voxels.shape)
        (z, dz), (y, dy), (x, dx) = (np.divmod(axis, side) for axis in at)
        cell, place = (z * rows + y) * columns + x, (dz * side + dy) * side + dx
        asked = np.zeros(depth * rows * columns, np.bool_)
        asked[cell] = True
        cells = np.flatnonzero(asked)
        number = np.empty(len(asked), np.intp)
        number[cells] = np.arange(len(cells))
        flat = self.features[0].reshape(len(self.features[0]), -1)
        values = self._values(np.take(flat, cells, axis=1))
        found = values.reshape(self.kernel.channels, side**3 * len(cells))
        return np.asarray(np.take(found, place * len(cells) + number[cell], axis=1), np.float32)

    def _values(self, features: F32) -> F32:
        """[channels * places, n] of features [features, n]."""
        kernel = self.kernel
        values = kernel.rows() @ features
        values += np.repeat(kernel.bias, kernel.side**3)[:, None]
        return np.asarray(values, np.float32)
