"""A made-up trunk with shoulders and a windpipe, blurred by a known Gaussian, and a chest entry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from appliance.records import Geometry, Header, Plane, Stack

HEADER = Header("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2", "1.2.3")


def stacked(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], *, padding: bool = False
) -> Stack:
    """Slices [z, y, x], feet first, whose first pixel lies at the origin."""
    dz, dy, dx = spacing_mm
    planes = tuple(
        Plane(
            header=HEADER,
            frame=k,
            geometry=Geometry((0.0, 0.0, k * dz), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (dy, dx)),
            native=image,
            resampled={},
            padding=padding,
            digest=f"{k}",
        )
        for k, image in enumerate(hu)
    )
    return Stack(planes, np.arange(len(hu)) * dz, (0.0, 0.0, 1.0), spacing_mm)


def trunk(
    along_z_mm: float,
    in_plane_mm: float,
    spacing_mm: tuple[float, float, float],
    *,
    noise_hu: float = 20.0,
    side: int = 192,
    height_mm: float = 110.0,
) -> Stack:
    """Drawn on a finer grid and sampled after the blur, so that edges lie anywhere in a pixel."""
    dz, dy, dx = spacing_mm
    per = max(2, round(dz / 0.6))
    slices = int(height_mm / dz)
    z = (np.arange(slices * per) - slices * per / 2)[:, None, None] * dz / per
    y = (np.arange(2 * side) - side + 0.3)[None, :, None] * dy / 2
    x = (np.arange(2 * side) - side + 0.2)[None, None, :] * dx / 2
    half = height_mm / 2
    narrow = 1 - 0.75 * np.clip((z / half - 0.2) / 0.8, 0, 1) ** 1.5
    body = (x / (side * dx * 0.44 * narrow)) ** 2 + (y / (side * dy * 0.36 * narrow)) ** 2 < 1
    windpipe = (x - 3) ** 2 + (y + 10) ** 2 < 9**2
    hu = np.where(body & ~windpipe, np.float32(40), np.float32(-1000))
    wide = (along_z_mm / dz * per, in_plane_mm / dy * 2, in_plane_mm / dx * 2)
    seen = ndimage.gaussian_filter(hu, wide)[per // 2 :: per, ::2, ::2][:slices]
    noise = noise_hu * np.random.default_rng(7).standard_normal(seen.shape)
    return stacked(np.rint(seen + noise).astype(np.int16), spacing_mm)
