"""Implants are, byte by byte, those that every trained network has seen.

The digest was recorded before the insertion moved from training into the appliance. The last digits
of a sum of products depend on the processor: where this machine's are not those of the recording,
the figures below are compared instead.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")

from appliance.quality.implant import (
    KINDS,
    SHAPE_MM,
    Block,
    Nodule,
    Shape,
    draw_kind,
    implanted,
    pick_shape,
)
from training.implant.shapes import shape_of

PRODUCTS = "f103bcbff430db36eff363f2df8ab23ed594328053a404448d68b01b2b0fb013"
BYTES = "472f3afc2b390bc1ae14b932313389906846440b0ba1acbeda7f2dc4c9434c0b"
FIGURES = (
    82.711,
    157.676,
    420.630,
    622.740,
    880.657,
    1201.351,
    1591.860,
    2057.400,
    2609.756,
    -638.958,
    375.074,
)
"""Voxels of each implant; then mean and SD of the block in HU."""


def lump(diameter_mm: float, uneven: float, spiculation: int) -> Shape:
    """A ball with bumps."""
    n = int(np.ceil(1.4 * diameter_mm / SHAPE_MM)) + 2
    axis = (np.arange(n) - (n - 1) / 2) * SHAPE_MM
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = diameter_mm / 2 * (1 + uneven * np.sin(x + 0.5) * np.cos(0.7 * y - z))
    filled = np.clip((radius - np.sqrt(z**2 + y**2 + x**2)) / SHAPE_MM + 0.5, 0, 1)
    shape = shape_of(filled.astype(np.float32), spiculation)
    assert shape is not None
    return shape


def chest() -> Block:
    """Lung with a wall and a vessel, and noise."""
    rng = np.random.default_rng(11)
    hu = np.full((44, 96, 128), -850, np.float32)
    hu[:, :, 104:] = 40
    hu[:, 40:44, :] = 30
    hu += 25 * rng.standard_normal(hu.shape, dtype=np.float32)
    return Block(hu, (1.5, 0.75, 0.703125), 25.0)


def of_products() -> str:
    rng = np.random.default_rng(12)
    weights = rng.random((23, 31), dtype=np.float32)
    body = rng.random((31, 29, 27), dtype=np.float32)
    return hashlib.sha256(np.tensordot(weights, body, axes=(1, 0)).tobytes()).hexdigest()


def test_implants_are_those_that_were_recorded() -> None:
    shapes = [lump(4 + 1.5 * n, 0.12 + 0.02 * (n % 5), 1 + n % 5) for n in range(12)]
    block, rng = chest(), np.random.default_rng(13)
    before, digest, figures = block.hu.copy(), hashlib.sha256(), list[float]()
    for number, kind in enumerate([*KINDS, *(draw_kind(rng, 12.0) for _ in range(5))]):
        diameter = 5.0 + 1.2 * number
        at = rng.uniform([15, 15, 15], [51, 57, 68])
        nodule = Nodule(pick_shape(rng, shapes, diameter), diameter, kind)
        one = implanted(rng, block, at, nodule, before)
        if one is not None:
            digest.update(repr((one.center_mm, one.diameter_mm, one.kind, one.start)).encode())
            digest.update(one.occupancy.tobytes())
            figures.append(float(one.occupancy.sum(dtype=np.float64)))
    digest.update(block.hu.tobytes())
    figures += [float(block.hu.mean(dtype=np.float64)), float(block.hu.std(dtype=np.float64))]
    assert figures == pytest.approx(FIGURES, rel=1e-5)
    if of_products() == PRODUCTS:
        assert digest.hexdigest() == BYTES
