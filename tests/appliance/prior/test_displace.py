"""Demons at 8 mm: a known smooth field is found again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.prior import warp
from appliance.prior.displace import CELL_MM, demons

F32 = NDArray[np.float32]
SHAPE = (32, 24, 32)


def scene(seed: int = 0) -> F32:
    """Smooth structure from 0 to 1, 0 at its edges as around a chest."""
    rough = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    soft = warp.smoothed(rough, 2.0)
    window = [np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in SHAPE]
    inside = np.einsum("z,y,x->zyx", *window)
    return np.asarray(np.clip(0.5 + soft / soft.std() / 5, 0, 1) * inside**0.3, np.float32)


def moved(image: F32, field: F32) -> F32:
    """What shows, at each place, what `image` shows at the place plus field (mm)."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in SHAPE), indexing="ij")
    dz, dy, dx = field / CELL_MM
    return warp.Volume(image).at(z + dz, y + dy, x + dx).reshape(SHAPE)


def piston() -> F32:
    """Up to 14 mm along z at one end, 4 mm along x."""
    z = np.linspace(0, 1, SHAPE[0])[:, None, None] + np.zeros(SHAPE)
    x = np.linspace(0, 1, SHAPE[2])[None, None, :] + np.zeros(SHAPE)
    along = 14 * np.sin(np.pi / 2 * z) ** 2
    return np.asarray(np.stack([along, 0 * z, 4 * np.sin(np.pi * x)]), np.float32)


def test_a_known_field_is_found_to_a_third_of_a_cell() -> None:
    truth = piston()
    prior = scene()
    found = demons(prior, moved(prior, truth))
    inner = (slice(None), slice(5, -5), slice(5, -5), slice(5, -5))
    off = np.sqrt(((found - truth) ** 2).sum(0, keepdims=True))[inner]
    before = np.sqrt((truth**2).sum(0, keepdims=True))[inner]
    assert before.mean() > 6
    assert off.mean() < CELL_MM / 3


def test_darker_lungs_of_a_deeper_breath_do_not_pull() -> None:
    truth = piston()
    prior = scene()
    found = demons(prior, 0.8 * moved(prior, truth))
    inner = (slice(None), slice(5, -5), slice(5, -5), slice(5, -5))
    assert np.sqrt(((found - truth) ** 2).sum(0, keepdims=True))[inner].mean() < CELL_MM / 3


def test_equal_images_are_not_moved() -> None:
    assert np.abs(demons(scene(), scene())).max() < 0.001


def test_images_without_structure_are_not_moved() -> None:
    even = np.full((8, 8, 8), 0.4, np.float32)
    assert np.abs(demons(np.zeros_like(even), even)).max() < 0.1


def test_an_image_too_small_for_the_coarse_level_is_displaced_all_the_same() -> None:
    small = scene()[:8, :8, :8]
    found = demons(small, small)
    assert found.shape == (3, 8, 8, 8)
    assert np.isfinite(found).all()
