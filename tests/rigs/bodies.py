"""Bodies on grids of their own, and slices in every pose, for what lays the one onto the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from appliance.preprocess import plan
from appliance.records import Geometry, Grid, Mask
from appliance.report import Finding
from appliance.results.resample import Patch, Slice
from rigs.chests import Dicom

F64 = NDArray[np.float64]
ROOM_MM = 60.0
"""Side of the cube around the origin that the slices of a series show."""
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
TIP = np.array([3.0, 6.0, 7.0])
"""Where the thin end of `lopsided` points (LPS)."""


def sphere(center: ArrayLike, diameter_mm: float, *, voxel_mm: float = 0.8) -> Mask:
    """Voxels whose centres lie in a sphere; the grid stands still while the sphere is shifted."""
    middle = np.asarray(center, np.float64)

    def inside(lps: F64) -> NDArray[np.bool_]:
        return np.asarray(np.linalg.norm(lps - middle, axis=-1) <= diameter_mm / 2)

    return drawn(inside, np.round(middle), diameter_mm + 4 * voxel_mm, voxel_mm)


def lopsided(center: ArrayLike) -> Mask:
    """A ball of 9 mm with a thin tip: no axis of symmetry that a flip could hide behind."""
    middle = np.asarray(center, np.float64)
    along = TIP / np.linalg.norm(TIP)

    def inside(lps: F64) -> NDArray[np.bool_]:
        away = lps - middle
        far = away @ along
        across = np.linalg.norm(away - far[..., None] * along, axis=-1)
        ball = np.linalg.norm(away, axis=-1) <= 4.5
        return np.asarray(ball | ((far > 0) & (far < 11) & (across <= 1.6)))

    return drawn(inside, middle, 30.0, 0.8)


def drawn(
    inside: Callable[[F64], NDArray[np.bool_]], middle: F64, side_mm: float, voxel_mm: float
) -> Mask:
    n = int(np.ceil(side_mm / voxel_mm))
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[::-1] * voxel_mm
    matrix[:3, 3] = middle - (n - 1) / 2 * voxel_mm
    grid = Grid((n, n, n), (voxel_mm, voxel_mm, voxel_mm), matrix)
    index = np.moveaxis(np.indices((n, n, n)), 0, -1)
    return Mask("finding-1", inside(plan.to_lps(grid, index)), grid)


def slices(
    *,
    distance_mm: float = 1.25,
    pixel_mm: tuple[float, float] = (0.7, 0.7),
    turn: ArrayLike = AXIAL,
    shear_mm: float = 0.0,
    shift_mm: ArrayLike = (0.0, 0.0, 0.0),
    room_mm: tuple[float, float] = (ROOM_MM, ROOM_MM),
) -> list[Slice]:
    """Slices around the origin. turn: rows are the directions of a row, of a column and of the
    normal (LPS); shear_mm: how much further along a column each slice begins (a gantry
    tilt); room_mm: what they show along the normal and across."""
    row, column, normal = np.asarray(turn, np.float64)
    rows, columns = (round(room_mm[1] / p) for p in pixel_mm)
    count = round(room_mm[0] / distance_mm)
    corner = -(row * (columns - 1) * pixel_mm[1] + column * (rows - 1) * pixel_mm[0]) / 2
    found = []
    for k in range(count):
        height = (k - (count - 1) / 2) * distance_mm
        at = corner + normal * height + column * shear_mm * (k - (count - 1) / 2) + shift_mm
        geometry = Geometry(plan.vector(at), plan.vector(row), plan.vector(column), pixel_mm)
        found.append(Slice(geometry, (rows, columns)))
    return found


def _turned(about: ArrayLike, degrees: float) -> F64:
    """Directions turned about an axis (Rodrigues)."""
    x, y, z = np.asarray(about, np.float64) / np.linalg.norm(about)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return np.asarray(np.eye(3) @ turn.T)


POSES: dict[str, Callable[[], list[Slice]]] = {
    "axial": slices,
    "feet first": lambda: slices(turn=[[-1, 0, 0], [0, 1, 0], [0, 0, -1]]),
    "prone": lambda: slices(turn=[[-1, 0, 0], [0, -1, 0], [0, 0, 1]]),
    "flipped": lambda: slices(turn=[[1, 0, 0], [0, -1, 0], [0, 0, -1]]),
    "anisotropic": lambda: slices(pixel_mm=(0.5, 1.1), distance_mm=2.0),
    "tilted": lambda: slices(turn=_turned([1, 0, 0], 18)),
    "sheared": lambda: slices(shear_mm=0.4),
    "oblique": lambda: slices(turn=_turned([1, 2, 3], 37), pixel_mm=(0.8, 0.6)),
    "coronal": lambda: slices(turn=[[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "reversed": lambda: slices()[::-1],
}


def posed(name: str) -> list[Slice]:
    return POSES[name]()


def points(patches: Sequence[Patch], series: Sequence[Slice]) -> F64:
    """Where the pixels lie, LPS mm [n, 3]."""
    found = []
    for patch in patches:
        geometry = series[patch.slice].geometry
        row, column = (np.argwhere(patch.pixels) + np.array([patch.row, patch.column])).T
        found.append(
            np.asarray(geometry.position_lps_mm)
            + np.outer(row * geometry.spacing_mm[0], geometry.column_lps)
            + np.outer(column * geometry.spacing_mm[1], geometry.row_lps)
        )
    return np.concatenate(found)


def middle(patches: Sequence[Patch], series: Sequence[Slice]) -> F64:
    return np.asarray(points(patches, series).mean(axis=0))


def middle_of(mask: Mask) -> F64:
    return np.asarray(plan.to_lps(mask.grid, np.argwhere(mask.voxels)).mean(axis=0))


def furthest(patches: Sequence[Patch], series: Sequence[Slice]) -> F64:
    """The pixel furthest from the middle."""
    found = points(patches, series)
    away = np.linalg.norm(found - found.mean(axis=0), axis=1)
    return np.asarray(found[int(np.argmax(away))])


def images(series: Sequence[Slice], **tags: object) -> list[Dataset]:
    """CT images of air at the places of `series`, in its order; what `tags` say is changed."""
    pattern = Dicom().chest()[0]
    found = []
    for number, one in enumerate(series, start=1):
        image = deepcopy(pattern)
        image.SOPInstanceUID = f"{pattern.SeriesInstanceUID}.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.InstanceNumber = number
        image.Rows, image.Columns = one.shape
        image.ImagePositionPatient = decimals(one.geometry.position_lps_mm)
        image.ImageOrientationPatient = decimals((*one.geometry.row_lps, *one.geometry.column_lps))
        image.PixelSpacing = decimals(one.geometry.spacing_mm)
        image.PixelData = bytes(2 * one.shape[0] * one.shape[1])
        for name, value in tags.items():
            if value is None:
                del image[name]
            else:
                setattr(image, name, value)
        found.append(image)
    return found


def decimals(values: Sequence[float]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def finding(number: int, mask: Mask, **says: object) -> Finding:
    """What a report says of a body."""
    x, y, z = middle_of(mask).tolist()
    return Finding.model_validate(
        {
            "id": number,
            "tracking_uid": f"2.25.{number}",
            "kind": "nodule",
            "score": 0.9,
            "threshold": 0.5,
            "center_lps_mm": (x, y, z),
            "box_lps_mm": (x - 5, y - 5, z - 5, x + 5, y + 5, z + 5),
            "key_image": 0,
            **says,
        }
    )
