"""Fingerprints of images: near for the same picture with noise, another kernel or lossy pixels.

Rules. An image is shrunk by area average to a coarse grid, freed of what is smooth (two chests are
alike there), and scaled to length 1: the product of two fingerprints is their similarity, 1 for the
same. Flipping and turning commute with all that, so that mirrored copies are found by flipping the
coarse grid. A picture of one value has the fingerprint 0 and is like no other. A crop, a shift or
another field of view is another picture: it is not found.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from appliance.quality.implant import Axis, box_mean
from training.read.volume import F32, window

GRID_3D = (8, 12, 12)
GRID_2D = (16, 16)
SMOOTH_3D, SMOOTH_2D = 1.0, 1.5
"""Standard deviation, in cells, of the smooth part that is taken away."""
FLAT = 1e-3
LIKE = 0.9
"""Least similarity of near-duplicates. Different chests reach 0.64, different LUNA16 patches 0.82;
the same with noise of 60 HU (of 8 grey levels in patches) and a softer kernel stay above 0.95."""
AXES_3D = ("head to feet", "front to back", "left to right")


def of_volume(hu: F32) -> F32:
    """A scan in HU [z, y, x] -> [8, 12, 12]."""
    return _fingerprint(window(hu), GRID_3D, SMOOTH_3D)


def of_image(image: npt.NDArray[np.uint8]) -> F32:
    """An image [y, x] or [y, x, colour] of 0-255 -> [16, 16]."""
    grey = image.mean(-1) if image.ndim == 3 else image
    return _fingerprint(np.asarray(grey / 255, np.float32), GRID_2D, SMOOTH_2D)


def _fingerprint(values: F32, grid: tuple[int, ...], smooth: float) -> F32:
    out = values
    for axis, (n, cells) in enumerate(zip(values.shape, grid, strict=True)):
        weights = box_mean(Axis(cells, 1 / cells, 0.0), Axis(n, 1 / n, 0.0))
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
    out = out - ndimage.gaussian_filter(out, smooth, mode="nearest")
    length = float(np.linalg.norm(out))
    flat = length < FLAT * out.size**0.5
    return np.zeros(grid, np.float32) if flat else np.asarray(out / length, np.float32)


def views(fingerprints: F32) -> list[tuple[str, F32]]:
    """Every flip of scans [n, z, y, x], and every flip and quarter turn of images [n, y, x]."""
    if fingerprints.ndim == 4:
        found = []
        for count in range(4):
            for axes in itertools.combinations(range(3), count):
                name = " and ".join(AXES_3D[a] for a in axes)
                how = f"mirrored {name}" if name else ""
                found.append((how, np.flip(fingerprints, tuple(a + 1 for a in axes))))
        return found
    found = []
    for turns in range(4):
        turned = np.rot90(fingerprints, turns, (1, 2))
        how = f"turned by {90 * turns} degrees" if turns else ""
        found.append((how, turned))
        mirrored = "mirrored left to right" + (f" and {how}" if how else "")
        found.append((mirrored, np.rot90(np.flip(fingerprints, 2), turns, (1, 2))))
    return found
