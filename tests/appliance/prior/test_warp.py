"""Values between voxels, and one grid's values on another."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.prior import warp

STEP = 1 / 32
"""Of a voxel: how finely it is divided."""


def ramp(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Values that tell every place from every other along each axis."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    return np.asarray(100 * z + 10 * y + x, np.float32)


def test_a_linear_volume_is_met_at_every_place_to_a_step_of_a_voxel() -> None:
    shape = (7, 6, 5)
    random = np.random.default_rng(0)
    z, y, x = (random.uniform(0, n - 1, 5000).astype(np.float32) for n in shape)
    found = warp.Volume(ramp(shape)).at(z, y, x)
    assert np.abs(found - (100 * z + 10 * y + x)).max() <= 11 * STEP


def test_voxels_themselves_are_met_exactly() -> None:
    values = np.random.default_rng(1).integers(0, 255, (4, 5, 6)).astype(np.uint8)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in values.shape), indexing="ij")
    assert np.array_equal(warp.Volume(values).at(z, y, x).reshape(values.shape), values)


def test_slices_that_do_not_fit_one_column_of_a_picture_stand_in_several() -> None:
    shape = (50, 1500, 3)
    z = np.arange(50, dtype=np.float32)
    y, x = np.full(50, 700, np.float32), np.full(50, 2, np.float32)
    assert np.allclose(warp.Volume(ramp(shape)).at(z, y, x), 100 * z + 7002)


def test_more_places_than_a_picture_has_pixels_in_a_row_are_all_met() -> None:
    x = np.random.default_rng(2).uniform(0, 4, 10001).astype(np.float32)
    still = np.zeros_like(x)
    assert np.abs(warp.Volume(ramp((2, 2, 5))).at(still, still, x) - x).max() <= STEP


def test_outside_the_nearest_voxel_holds() -> None:
    ready = warp.Volume(ramp((3, 3, 3)))
    far = np.array([-9, 9], np.float32)
    assert ready.at(far, far, far).tolist() == [0, 222]


def test_one_slice_is_a_volume_too() -> None:
    one = warp.Volume(ramp((1, 3, 3)))
    place = np.array([0.5], np.float32)
    assert one.at(place, place, place).tolist() == pytest.approx([5.5])


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 0, 3), (1, 32001, 1)])
def test_what_cannot_be_sampled_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="to sample"):
        warp.Volume(np.zeros(shape, np.uint8))


def test_cells_hold_the_mean_of_what_they_cover_and_nothing_beyond_the_row() -> None:
    row = np.array([1, 2, 3, 4, 5, 6], np.float32)
    assert (warp.cell_means(3, 2, -0.5, 6) @ row).tolist() == [1.5, 3.5, 5.5]
    assert (warp.cell_means(2, 3, 3.5, 6) @ row).tolist() == pytest.approx([11 / 3, 0])
    assert (warp.cell_means(1, 1.5, 0.5, 6) @ row).tolist() == pytest.approx([(2 + 3 / 2) / 1.5])


def test_between_voxels_of_a_row_it_is_linear_and_its_ends_go_on() -> None:
    found = warp.between([-4, 0, 0.25, 2.5, 3, 8], 4) @ np.array([0, 10, 20, 30], np.float32)
    assert found.tolist() == pytest.approx([0, 0, 2.5, 25, 30, 30])


def test_one_matrix_an_axis_is_what_a_product_over_all_three_gives() -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(3, 4, 5)).astype(np.float32)
    a, b, c = (random.normal(size=(2 + k, n)).astype(np.float32) for k, n in enumerate((3, 4, 5)))
    wanted = np.einsum("iz,jy,kx,zyx->ijk", a, b, c, values)
    assert np.allclose(warp.along_axes(values, [a, b, c]), wanted, atol=1e-4)


def test_a_blur_leaves_what_is_even_and_spreads_a_point_by_its_deviation() -> None:
    even = np.full((9, 9, 9), 7, np.float32)
    assert np.allclose(warp.smoothed(even, 2.0), 7, atol=1e-5)
    point = np.zeros((1, 1, 41), np.float32)
    point[0, 0, 20] = 1
    soft = warp.smoothed(point, 2.0)[0, 0]
    spread = ((np.arange(41) - 20) ** 2 * soft).sum() / soft.sum()
    assert spread == pytest.approx(4, rel=0.02)
