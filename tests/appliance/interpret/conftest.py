"""Grids that lie in the patient in any way, and chests made of boxes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from appliance.preprocess import plan
from appliance.records import Geometry, Grid, Header, Plane, Stack

WAYS = [
    np.eye(3)[list(order)] * np.asarray(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
TURN = np.deg2rad(12)
OBLIQUE = np.array([[0, np.sin(TURN), np.cos(TURN)], [0, np.cos(TURN), -np.sin(TURN)], [1.0, 0, 0]])


def lying_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (3.0, 3.0, 3.0),
    axes: np.ndarray | None = None,
    origin: tuple[float, float, float] = (-100.0, -50.0, 20.0),
) -> Grid:
    """A grid whose index directions z, y, x are the rows of `axes` (default: +z, +y, +x of LPS)."""
    rows = np.eye(3)[::-1] if axes is None else axes
    matrix = np.eye(4)
    matrix[:3, :3] = rows.T * np.asarray(spacing)
    matrix[:3, 3] = origin
    return Grid(shape, spacing, matrix)


def stack_on(grid: Grid, *, padding: bool = False) -> Stack:
    """Planes that lie as the slices of a grid do; their pixels do not matter."""
    normal, column, row = (plan.vector(grid.to_lps[:3, i] / grid.spacing_mm[i]) for i in range(3))
    planes = []
    for k in range(grid.shape[0]):
        at = plan.vector(plan.to_lps(grid, (k, 0, 0)))
        geometry = Geometry(at, row, column, grid.spacing_mm[1:])
        header = Header("1", f"1.2.{k}", "1.3", "1.4")
        native = np.zeros(grid.shape[1:], np.int16)
        planes.append(Plane(header, 0, geometry, native, {}, padding, ""))
    z = np.arange(grid.shape[0]) * grid.spacing_mm[0]
    return Stack(tuple(planes), z, normal, grid.spacing_mm)


@pytest.fixture(scope="session")
def grid_of() -> Callable[..., Grid]:
    return lying_grid


@pytest.fixture(scope="session")
def stack_of() -> Callable[..., Stack]:
    return stack_on


@pytest.fixture(scope="session", params=[*range(48), "oblique"])
def axes(request) -> np.ndarray:
    """Each of the 48 ways to lay z, y, x along the axes of the patient, and one between them."""
    return OBLIQUE if request.param == "oblique" else WAYS[request.param]
