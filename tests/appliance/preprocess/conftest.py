"""Phantoms whose HU are a formula of patient millimetres, sampled by any scanner geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.preprocess import fast
from appliance.records import Geometry, Header, Image, Stack, Vector

HEADER = Header(
    sop_class_uid="1.2", sop_instance_uid="1.2.3", study_uid="1.2.4", series_uid="1.2.5"
)


def blob_hu(lps: NDArray[np.float64], centre: Sequence[float]) -> NDArray[np.float64]:
    """Air with one Gaussian blob of sigma 5 mm and 1400 HU contrast around `centre`."""
    away = ((lps - np.asarray(centre)) ** 2).sum(-1)
    return -1000 + 1400 * np.exp(-away / (2 * 5.0**2))


def sampled_stack(
    hu_at: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    row: Sequence[float] = (1, 0, 0),
    column: Sequence[float] = (0, 1, 0),
    normal: Sequence[float] | None = None,
    shape: tuple[int, int, int] = (24, 40, 36),
    spacing: Vector = (2.5, 1.5, 1.7),
    middle: Sequence[float] = (12.0, -34.0, 56.0),
    z_mm: NDArray[np.float64] | None = None,
    spacings: Sequence[float] = (),
    dtype: type = np.float32,
) -> Stack:
    """What a scanner with these index directions would send of `hu_at`, as an assembled Stack.

    `row` is the direction of rising column index, as in (0020,0037). `shape` and `spacing` count
    planes, rows, columns; the volume's middle lies at `middle`.
    """
    u, v = np.asarray(row, float), np.asarray(column, float)
    n = np.cross(u, v) if normal is None else np.asarray(normal, float)
    z = np.arange(shape[0]) * spacing[0] if z_mm is None else z_mm
    first = (
        np.asarray(middle, float)
        - n * (z[0] + z[-1]) / 2
        - v * (shape[1] - 1) / 2 * spacing[1]
        - u * (shape[2] - 1) / 2 * spacing[2]
    )
    i, j = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    flat = i[..., None] * spacing[1] * v + j[..., None] * spacing[2] * u
    planes = []
    for k, at in enumerate(z):
        position = first + n * at
        geometry = Geometry(tuple(position), tuple(u), tuple(v), (spacing[1], spacing[2]))
        hu = np.rint(hu_at(flat + position)).astype(dtype)
        planes.append(fast.plane(Image(HEADER, 0, geometry, hu, False, f"{k:064x}"), spacings))
    turned = planes[0].geometry.spacing_mm
    return Stack(tuple(planes), z, tuple(n), (float(np.median(np.diff(z))), *turned))


@pytest.fixture(scope="session")
def stack_of() -> Callable[..., Stack]:
    return sampled_stack


@pytest.fixture(scope="session")
def blob() -> Callable[..., NDArray[np.float64]]:
    return blob_hu
