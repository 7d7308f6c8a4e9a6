"""The way back: values of ops undone, and voxels found again from the scan's own pixels."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.preprocess import reference
from appliance.preprocess.spec import Pad, Window, ZScore
from appliance.quality.faithful import back
from appliance.records import Geometry, Grid

TURN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def grid(shape: tuple[int, int, int], mm: float, turn: np.ndarray = TURN) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = turn * mm
    matrix[:3, 3] = (-20.0, -30.0, 5.0)
    return Grid(shape, (mm, mm, mm), matrix)


def test_numbers_are_undone_but_what_a_window_cut() -> None:
    ops = (Window(low=-1000, high=400), ZScore(mean=0.4, std=0.3), Pad(multiple=4))
    hu = np.linspace(-1000, 400, 24, dtype=np.float32).reshape(2, 3, 4)
    made = reference.points(hu, ops)
    assert back.hounsfield(made, ops)[:2, :3, :4] == pytest.approx(hu, abs=1e-3)
    beyond = reference.points(np.full((4, 4, 4), 900, np.float32), ops)
    assert back.hounsfield(beyond, ops).max() == pytest.approx(400)


@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_a_linear_field_is_read_exactly_at_every_pixel_inside(degrees: float) -> None:
    """Linear between voxels is exact for it, whichever way slice and volume lie."""
    along = np.deg2rad(degrees)
    turned = np.array(
        [[np.cos(along), -np.sin(along), 0], [np.sin(along), np.cos(along), 0], [0, 0, 1]]
    )
    at = grid((12, 30, 40), 2.0, turned @ TURN)
    index = np.stack(np.meshgrid(*map(np.arange, at.shape), indexing="ij"), axis=-1)
    lps = index @ at.to_lps[:3, :3].T + at.to_lps[:3, 3]
    field = (lps @ np.array([2.0, -3.0, 5.0])).astype(np.float32)
    x, y, z = (float(v) for v in lps.reshape(-1, 3).mean(axis=0))
    place = Geometry((x - 5, y + 4, z + 0.3), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.7, 0.9))
    values, inside = back.pixels(field, at, place, (10, 12))
    assert inside.all()
    expected = back.places(place, (10, 12)) @ np.array([2.0, -3.0, 5.0])
    assert values == pytest.approx(expected, abs=1e-2)


def test_pixels_beyond_the_volume_are_not_inside() -> None:
    at = grid((4, 8, 8), 2.0)
    place = Geometry((-24.0, -34.0, 7.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0))
    values, inside = back.pixels(np.ones(at.shape, np.float32), at, place, (30, 30))
    assert inside.sum() == 17 * 17, "to the edges of the outermost voxels"
    assert not inside[0, 0]
    assert values[inside] == pytest.approx(1.0)
    above = Geometry((-20.0, -30.0, 40.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0))
    assert not back.pixels(np.ones(at.shape, np.float32), at, above, (8, 8))[1].any()
