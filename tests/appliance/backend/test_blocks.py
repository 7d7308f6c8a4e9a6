"""An output that is made of features: the whole of it, and some voxels."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.backend.blocks import Blocks, Kernel
from appliance.backend.protocol import highest

RNG = np.random.default_rng(5)


def blocks() -> Blocks:
    kernel = Kernel(
        RNG.normal(size=(6, 4, 2, 2, 2)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
    )
    return Blocks(RNG.normal(size=(1, 6, 3, 5, 2)).astype(np.float32), kernel)


def transposed(one: Blocks) -> np.ndarray:
    """The definition (ONNX operators, ConvTranspose), voxel by voxel."""
    out = np.zeros(one.shape)
    for z, y, x in np.ndindex(*one.shape[2:]):
        features = one.features[0, :, z // 2, y // 2, x // 2].astype(np.float64)
        weights = one.kernel.weights[:, :, z % 2, y % 2, x % 2]
        out[0, :, z, y, x] = features @ weights + one.kernel.bias
    return out


def test_the_whole_is_the_transposed_convolution():
    one = blocks()
    assert one.shape == (1, 4, 6, 10, 4)
    assert one.whole().dtype == np.float32
    assert np.allclose(one.whole(), transposed(one), atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 10, 4), (5, 9, 3), (2, 10, 1)])
def test_the_highest_channel_of_some_voxels_is_that_of_the_whole(shape):
    one = blocks()
    voxels = RNG.random(shape) < 0.2
    found = one.highest(voxels)
    assert found.dtype == np.uint8
    assert len(np.unique(found)) > 2
    assert np.array_equal(found, highest(one.whole(), voxels))


def test_of_equal_channels_the_first_is_the_highest():
    kernel = Kernel(np.zeros((6, 4, 2, 2, 2), np.float32), np.array([1, 3, 3, 2], np.float32))
    one = Blocks(np.ones((1, 6, 2, 2, 2), np.float32), kernel)
    assert (one.highest(np.ones((4, 4, 4), np.bool_)) == 1).all()


def test_of_no_voxels_nothing_is_the_highest():
    assert not blocks().highest(np.zeros((6, 10, 4), np.bool_)).any()


def test_voxels_beyond_the_output_are_refused():
    with pytest.raises(ValueError, match="reach beyond"):
        blocks().highest(np.ones((7, 10, 4), np.bool_))
