"""400 slices of 512 x 512 to 1 mm, windowed: the fast path against scipy.ndimage.zoom."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import zoom

from appliance.preprocess import fast
from appliance.preprocess.spec import Resample, Window
from appliance.records import Geometry, Header, Image, Stack

SLICES, SIZE, APART_MM, PIXEL_MM = 400, 512, 0.8, 0.7
OPS = (Resample(spacing_mm=(1.0, 1.0, 1.0)), Window(low=-1000, high=400))


def comparisons() -> Iterator[tuple[str, str, str, Callable[[], object], Callable[[], object]]]:
    """What, name of ours, name of the peer, and how to run both."""
    voxels = np.random.default_rng(1).integers(-1000, 400, (SLICES, SIZE, SIZE), dtype=np.int16)

    def ours() -> object:
        planes = tuple(fast.plane(_image(voxels[k], k), (1.0,)) for k in range(SLICES))
        z = np.arange(SLICES, dtype=np.float64) * APART_MM
        stack = Stack(planes, z, (0.0, 0.0, 1.0), (APART_MM, PIXEL_MM, PIXEL_MM))
        return fast.tensor(stack, OPS, None)

    def peer() -> object:
        scaled = zoom(voxels, (APART_MM, PIXEL_MM, PIXEL_MM), np.float32, order=1)
        return np.clip((scaled + 1000) / 1400, 0, 1)

    yield "prepare 400 x 512 x 512 to 1 mm", "scanside", "scipy.ndimage.zoom", ours, peer


def _image(hu: np.ndarray[tuple[int, ...], np.dtype[np.int16]], k: int) -> Image:
    header = Header("1.2.840.10008.5.1.4.1.1.2", f"1.{k}", "1.2", "1.3")
    place = Geometry((0.0, 0.0, k * APART_MM), (1, 0, 0), (0, 1, 0), (PIXEL_MM, PIXEL_MM))
    return Image(header, 0, place, hu, padding=False, digest=str(k))
