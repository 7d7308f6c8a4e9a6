"""Blocks and quarters at fixed places."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.quality import blocks

MM = (0.7, 0.7)


def test_each_quarter_lies_where_its_place_says() -> None:
    """Each holds its own row and column, so a mean tells where it was taken."""
    row, column = np.indices((300, 400)).astype(np.float32)
    at = blocks.places((300, 400), MM)
    half = at.size[0] / 2
    for axis, image in enumerate((row, column)):
        found = blocks.read(image, at)
        middle = at.quarters[axis] - half // 2 + (half - 1) / 2
        assert found.quarter_mean == pytest.approx(middle)
        assert found.mean == pytest.approx(middle.reshape(-1, 4).mean(axis=1))
    assert len(found.mean) * 4 == len(found.quarter_hu) == len(at.quarters[0])


def test_a_block_is_put_together_as_it_lies_in_the_image() -> None:
    """Of whole numbers and of floats, also where the rows of the image do not adjoin in memory."""
    every = np.random.default_rng(4).integers(-1000, 400, (300, 800)).astype(np.int16)
    image = every[::-1, ::2]
    at = blocks.places(image.shape, (0.7, 0.9))
    (tall, wide), (down, across) = at.size, at.step
    for hu in (image, image.astype(np.float32)):
        found = blocks.read(hu, at)
        which = np.arange(len(found.mean)) % 3 == 1
        there = [
            hu[y : y + tall, x : x + wide]
            for y in range(0, hu.shape[0] - tall + 1, down)
            for x in range(0, hu.shape[1] - wide + 1, across)
        ]
        assert (blocks.whole(found, which, at) == np.stack(there)[which]).all()


def test_places_hang_on_millimetres_and_never_on_what_is_shown() -> None:
    """From the first pixel on, every STEP_MM, whatever the pixels are."""
    for mm in (0.5, 0.7, 0.98):
        at = blocks.places((400, 400), (mm, mm))
        assert at.size[0] % 2 == 0
        assert at.size[0] * mm == pytest.approx(blocks.BLOCK_MM, abs=1.1)
        assert at.step[0] * mm == pytest.approx(blocks.STEP_MM, abs=0.5)
        assert at.quarters[0].min() == at.size[0] // 2 // 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (8, 8)])
def test_an_image_smaller_than_a_block_has_none(shape: tuple[int, int]) -> None:
    found = blocks.read(np.ones(shape, np.float32), blocks.places(shape, (1.0, 1.0)))
    assert len(found.mean) == len(found.quarter_hu) == len(found.quarter_sd) == 0


def test_fill_is_not_real_and_the_block_around_it_is_not_either() -> None:
    rng = np.random.default_rng(1)
    hu = rng.normal(50, 10, (64, 64)).astype(np.float32)
    at = blocks.places(hu.shape, (1.0, 1.0))
    assert blocks.read(hu, at).real.all()
    filled = hu.copy()
    filled[0, 0] = -2048
    found = blocks.read(filled, at)
    assert not found.quarter_real[0]
    assert found.quarter_real[1:].all()
    assert not found.real[0]
    assert found.real[1:].all()
    flat = hu.copy()
    flat[:6, :6] = 0
    assert not blocks.read(flat, at).quarter_real[0]


def test_sd_is_about_the_mean_of_the_quarter() -> None:
    hu = np.zeros((12, 12), np.float32)
    hu[:6, 6:] = 100
    hu += np.random.default_rng(3).normal(0, 5, hu.shape).astype(np.float32)
    found = blocks.read(hu, blocks.places(hu.shape, (1.0, 1.0)))
    for k, part in enumerate((hu[:6, :6], hu[:6, 6:], hu[6:, :6], hu[6:, 6:])):
        assert found.quarter_sd[k] == pytest.approx(part.std(), rel=1e-4)
        assert found.quarter_mean[k] == pytest.approx(part.mean(), rel=1e-4)
