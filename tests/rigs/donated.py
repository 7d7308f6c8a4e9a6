"""Shapes for the probe that are balls, and a bundle that has them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from appliance.quality import shapes
from appliance.quality.implant import SHAPE_MM, Shape
from appliance.quality.shapes import Donated


def ball(diameter_mm: float) -> Shape:
    """A ball of this diameter on the grid of shapes."""
    cells = int(np.ceil(diameter_mm / SHAPE_MM)) + 2
    at = (np.arange(cells) - (cells - 1) / 2) * SHAPE_MM
    far = np.sqrt(at[:, None, None] ** 2 + at[:, None] ** 2 + at**2)
    inside = np.clip((diameter_mm / 2 - far) / SHAPE_MM + 0.5, 0, 1)
    return Shape((inside * 255).astype(np.uint8), diameter_mm, 1)


def donated() -> Donated:
    """Four balls."""
    return Donated(tuple(ball(mm) for mm in (4.0, 6.0, 9.0, 14.0)), "balls of a test", "CC0-1.0")


def with_shapes(bundle: bytes) -> bytes:
    """The same bundle with these shapes, unsigned; its version is another one."""
    from compile.pack import pack  # noqa: PLC0415 - only who asks for a bundle pays for onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.scanside"
        path.write_bytes(bundle)
        return pack(path, goldens=False, version="99.0.0", shapes=shapes.packed(donated()))
