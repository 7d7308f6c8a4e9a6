"""What a reader sees of a place in an exam: the cube that was kept of it, else one of the 2 mm
image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.prior.entry import CUBE, CUBE_MM, HIGH_HU, LOW_HU, Cube, Image
from appliance.records import Grid, Vector

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shown:
    """A cube of one exam, to be looked at."""

    hu: NDArray[np.int16]
    """[CUBE, CUBE, CUBE] at CUBE_MM; -1000 outside of the images."""
    grid: Grid


def of_cube(cube: Cube) -> Shown:
    """As it was kept."""
    return Shown(cube.hu, cube.grid)


def of_image(image: Image, center_lps_mm: Vector) -> Shown:
    """Linear between the voxels of the 2 mm image, on its axes; its middle is the place."""
    matrix = np.eye(4)
    matrix[:3, :3] = image.grid.to_lps[:3, :3] / np.asarray(image.grid.spacing_mm) * CUBE_MM
    matrix[:3, 3] = np.asarray(center_lps_mm) - matrix[:3, :3].sum(axis=1) * (CUBE - 1) / 2
    grid = Grid((CUBE,) * 3, (CUBE_MM,) * 3, matrix)
    first = plan.to_index(image.grid, matrix[:3, 3])
    values, inside = image.values.astype(np.float64), np.ones((CUBE,) * 3, np.bool_)
    for axis, (spacing, count) in enumerate(
        zip(image.grid.spacing_mm, image.grid.shape, strict=True)
    ):
        at = first[axis] + np.arange(CUBE) * CUBE_MM / spacing
        values = np.moveaxis(np.tensordot(_linear(at, count), values, axes=([1], [axis])), 0, axis)
        shape = [1, 1, 1]
        shape[axis] = CUBE
        inside &= ((at >= -0.5) & (at <= count - 0.5)).reshape(shape)
    hu = np.where(inside, LOW_HU + values * (HIGH_HU - LOW_HU) / 255, -1000.0)
    return Shown(np.rint(hu).astype(np.int16), grid)


def _linear(at: F64, count: int) -> F64:
    """Weights [places, voxels]; beyond the ends, the end."""
    place = np.clip(at, 0, count - 1)
    low = np.minimum(np.floor(place).astype(int), max(count - 2, 0))
    weights = np.zeros((len(at), count))
    rows = np.arange(len(at))
    weights[rows, low] = 1 - (place - low)
    weights[rows, np.minimum(low + 1, count - 1)] += place - low
    return weights
