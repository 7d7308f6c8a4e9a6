"""Series of images in any position, with one asymmetric body in them, and what is true of it.

The mapping of pixels to the patient is that of PS3.3 C.7.6.2.1.1, written down here once more: what
is judged by it does not share a line with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.records import Axes

F64 = NDArray[np.float64]
MIDDLE = np.array([31.0, -22.0, -108.0])
"""LPS mm, of the body; to no plane and no edge is it the middle of the images."""
RADII = np.array([9.0, 5.0, 7.0])
ROWS, COLUMNS, SLICES = 96, 128, 24


def _turn(axis: int, degrees: float) -> F64:
    a, b = [i for i in range(3) if i != axis]
    made, angle = np.eye(3), np.deg2rad(degrees)
    made[a, a] = made[b, b] = np.cos(angle)
    made[a, b], made[b, a] = -np.sin(angle), np.sin(angle)
    return made


@dataclass(frozen=True)
class Pose:
    """Columns of `directions`: a row, a column and the way from slice to slice."""

    directions: F64
    spacing_mm: tuple[float, float]
    step_mm: float = 2.0


AXIAL = np.eye(3)
SHEARED = np.eye(3)
SHEARED[:, 1], SHEARED[:, 2] = _turn(0, 20) @ [0, 1, 0], [0, 0, 1]
POSES: Mapping[str, Pose] = {
    "axial": Pose(AXIAL, (0.7, 0.7)),
    "anisotropic": Pose(AXIAL, (0.6, 1.1)),
    "flipped": Pose(AXIAL @ np.diag([-1, -1, -1]), (0.7, 0.7)),
    "one side flipped": Pose(AXIAL @ np.diag([1, -1, 1]), (0.7, 0.9)),
    "oblique": Pose(_turn(2, 25) @ _turn(0, 8), (0.7, 0.7)),
    "oblique, anisotropic": Pose(_turn(2, -33) @ _turn(1, 6), (0.55, 1.05)),
    "gantry tilted": Pose(SHEARED, (0.7, 0.7)),
}


def axes(turned_deg: float = 0.0) -> Axes:
    """Of the body's axial section through its middle, where it is largest."""
    along, across = _turn(2, turned_deg)[:, :2].T
    long, short = RADII[0] * along, RADII[1] * across
    return Axes(
        (_triple(MIDDLE - long), _triple(MIDDLE + long)),
        (_triple(MIDDLE - short), _triple(MIDDLE + short)),
    )


def series(pose: Pose, turned_deg: float = 0.0, **more: Any) -> list[Dataset]:
    """CT images that show the body (`axes`), with stored values of 1000 inside and of 0 outside.

    more: attributes of all images.
    """
    row, column, step = pose.directions.T
    between_rows, between_columns = pose.spacing_mm
    corner = MIDDLE - 41.3 * between_columns * row - 37.6 * between_rows * column
    corner = corner - 9.35 * pose.step_mm * step
    made = _bare()
    for k, image in enumerate(made):
        place = corner + k * pose.step_mm * step
        j, i = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
        at = place + j[..., None] * between_columns * row + i[..., None] * between_rows * column
        out = np.linalg.norm((at - MIDDLE) @ _turn(2, turned_deg) / RADII, axis=-1)
        image.PixelData = ((out <= 1) * 1000).astype("<i2").tobytes()
        image.ImagePositionPatient = [round(v, 6) for v in place.tolist()]
        image.ImageOrientationPatient = [
            round(v, 9) for v in np.concatenate([row, column]).tolist()
        ]
        image.PixelSpacing = list(pose.spacing_mm)
        image.SliceThickness = pose.step_mm
        for keyword, value in more.items():
            setattr(image, keyword, value)
    return made


def centre(image: Dataset) -> F64:
    """(column, row) of the body on an image, from the corner of the first pixel."""
    i, j = np.nonzero(image.pixel_array)
    return np.array([j.mean() + 0.5, i.mean() + 0.5])


def _bare() -> list[Dataset]:
    """Images of air, valid in all but what is changed below."""
    air = np.zeros((SLICES, ROWS, COLUMNS), np.int16)
    return list(
        instances.series(Phantom(air, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ()), study_uid="2.25.11")
    )


def _triple(point: F64) -> tuple[float, float, float]:
    x, y, z = point.tolist()
    return x, y, z
