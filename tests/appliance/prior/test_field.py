"""A field on nodes: there and back, its folds, and what it is made from."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.prior import field as fields
from appliance.prior.align import Alignment
from appliance.prior.displace import CELL_MM, PAD
from appliance.prior.field import Field
from rigs import breathing

F32 = NDArray[np.float32]
WAY = Alignment(np.array([1.1, 0.9, 1.05]), np.array([5.0, -3.0, 20.0]))
SLOPE = np.array([[0.1, 0.02, 0.0], [0.0, -0.1, 0.05], [-0.03, 0.0, 0.2]])
"""mm of displacement (rows z, y, x) a mm along z, y, x."""


def linear(way: Alignment = WAY, slope: NDArray[np.float64] = SLOPE) -> Field:
    """A displacement that grows evenly, over the grid of a chest."""
    grid = fields.nodes(breathing.chest())
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"))
    away = CELL_MM * np.einsum("ij,jzyx->izyx", slope, index - 10.0)
    return Field(way, np.asarray(away, np.float32), grid)


def inside(count: int = 200) -> NDArray[np.float64]:
    """Places within the nodes, LPS mm."""
    return np.random.default_rng(2).uniform([-90, -60, -90], [90, 60, 90], (count, 3))


def test_a_displacement_is_added_before_the_boxes_are_laid_over_one_another() -> None:
    field, points = linear(), inside()
    index = plan.to_index(field.grid, points)
    moved = (CELL_MM * (index - 10.0) @ SLOPE.T)[:, ::-1]
    assert np.abs(field.to_prior(points) - WAY.to_prior(points + moved)).max() < 0.2


def test_there_and_back_is_where_one_was() -> None:
    field, points = linear(), inside()
    assert np.abs(field.to_current(field.to_prior(points)) - points).max() < 0.1


def test_the_jacobian_of_an_even_growth_is_that_growth() -> None:
    field = linear(Alignment(np.ones(3), np.zeros(3)))
    wanted = np.eye(3) + SLOPE[::-1, ::-1]
    assert np.abs(field.jacobian(inside(20)) - wanted).max() < 0.1


def test_it_folds_where_space_turns_inside_out_and_nowhere_else() -> None:
    field = linear()
    assert not field.folded().any()
    field.values[0, 12:] -= 20.0
    folded = field.folded()
    assert folded[11:13].all()
    assert not folded[:10].any()
    assert not folded[14:].any()


def test_nodes_begin_with_the_image_and_are_filled_up_to_what_a_network_takes() -> None:
    image = breathing.chest()
    grid = fields.nodes(image)
    assert all(n % PAD == 0 for n in grid.shape)
    assert all(n * CELL_MM >= s * 2 for n, s in zip(grid.shape, image.values.shape, strict=True))
    assert plan.to_index(image.grid, plan.to_lps(grid, [0, 0, 0])) == pytest.approx([1.5] * 3)


def test_what_displaces_is_given_means_over_cells_from_0_to_1() -> None:
    image = breathing.chest()
    prior, current = fields.inputs(image, image, Alignment(np.ones(3), np.zeros(3)))
    block = image.values[40:44, 20:24, 60:64].mean() / 255
    assert current[10, 5, 15] == pytest.approx(block, abs=1e-5)
    assert np.allclose(prior, current, atol=1e-5)
    assert current[:, :, 30:].max() == 0  # beyond the image


def test_the_prior_that_displaces_is_given_is_box_aligned() -> None:
    image = breathing.chest()
    shifted = Alignment(np.ones(3), np.array([0.0, 0.0, 16.0]))
    prior, current = fields.inputs(image, image, shifted)
    assert np.allclose(prior[:10], current[2:12], atol=1e-5)
