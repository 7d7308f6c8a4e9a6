"""A voxel can always be named in the patient, whatever way the scanner wrote the slices."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BundleRefused
from appliance.preprocess import fast, plan, reference
from appliance.preprocess.spec import (
    Crop,
    Orient,
    Pad,
    Patch,
    Resample,
    Rescale,
    Window,
    ZScore,
)
from appliance.records import Box, Geometry, Grid, Mask

WINDOW = Window(low=-1000, high=400)
AXES = np.eye(3)
SIGNED = [
    (AXES[a] * s, AXES[b] * t, AXES[c] * r)
    for a, b, c in itertools.permutations(range(3))
    for s, t, r in itertools.product((1, -1), repeat=3)
]
IDS = [
    "".join("+-"[int(v.sum() < 0)] + "xyz"[int(np.abs(v).argmax())] for v in way) for way in SIGNED
]


def rotation(degrees: float, axis: int) -> np.ndarray:
    angle = np.deg2rad(degrees)
    a, b = [i for i in range(3) if i != axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


def centroid_lps(array: np.ndarray, grid: Grid) -> np.ndarray:
    z, y, x = grid.shape
    weight = np.maximum(array[0, 0, :z, :y, :x] - 0.1, 0).astype(float)
    index = [float((weight.sum((1, 2)) * np.arange(z)).sum()), 0.0, 0.0]
    index[1] = float((weight.sum((0, 2)) * np.arange(y)).sum())
    index[2] = float((weight.sum((0, 1)) * np.arange(x)).sum())
    return plan.to_lps(grid, np.asarray(index) / weight.sum())


def recovered(stack, point, target, cropped: bool):
    """Where each implementation finds the blob that lies at `point`, and the grid's spacing."""
    ops = [Rescale(), Orient(), Resample(spacing_mm=target)]
    crop = None
    if cropped:
        coarse = plan.grid_of(stack, (3.0, 3.0, 3.0))
        near = np.zeros(coarse.shape, bool)
        at = np.rint(plan.to_index(coarse, point)).astype(int)
        near[tuple(at)] = True
        crop = (coarse, plan.box_of_mask(Mask("organ", near, coarse), 15.0))
        ops.append(Crop(margin_mm=15.0))
    ops += [WINDOW, Pad(multiple=16)]
    for make in (reference.apply, fast.tensor):
        array, grid = make(stack, ops, crop)
        assert all(n % 16 == 0 for n in array.shape[2:])
        yield centroid_lps(array, grid), grid


@pytest.mark.parametrize("way", SIGNED, ids=IDS)
def test_a_point_is_found_again_under_every_flip_and_swap_of_the_axes(stack_of, blob, way):
    row, column, normal = way
    point = np.array([12.0, -34.0, 56.0]) + 9 * row - 6 * column + 5 * normal
    stack = stack_of(
        partial(blob, centre=point), row=row, column=column, normal=normal, spacings=(2.0,)
    )
    for found, grid in recovered(stack, point, (2.0, 2.0, 2.0), cropped=True):
        assert np.abs(found - point).max() < 0.25 * min(grid.spacing_mm)


@pytest.mark.parametrize("degrees", [-15, -10, 10, 15])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("cropped", [False, True])
def test_a_point_is_found_again_in_oblique_slices(stack_of, blob, degrees, axis, cropped):
    turn = rotation(degrees, axis) @ rotation(7, (axis + 1) % 3)
    row, column = -turn[:, 0], -turn[:, 1]
    point = np.array([12.0, -34.0, 56.0]) + turn @ [8.0, -7.0, 6.0]
    stack = stack_of(partial(blob, centre=point), row=row, column=column, spacings=(2.0,))
    for found, grid in recovered(stack, point, (2.0, 2.0, 2.0), cropped):
        assert np.abs(found - point).max() < 0.25 * min(grid.spacing_mm)


@pytest.mark.parametrize("target", [(1.25, 1.25, 1.25), (3.0, 3.0, 3.0), (1.0, 2.0, 2.0)])
@pytest.mark.parametrize("spacing", [(5.0, 0.7, 0.9), (0.8, 1.1, 0.6), (2.5, 2.5, 1.2)])
def test_a_point_is_found_again_from_anisotropic_spacing(stack_of, blob, spacing, target):
    shape = tuple(int(60 / s) for s in spacing)
    point = np.array([15.0, -31.0, 53.0])
    stack = stack_of(
        partial(blob, centre=point),
        row=(0, 1, 0),
        column=(-1, 0, 0),
        shape=shape,
        spacing=spacing,
        spacings=target[1:2],
        dtype=np.int16,
    )
    for found, grid in recovered(stack, point, target, cropped=False):
        assert np.abs(found - point).max() < 0.25 * min(grid.spacing_mm)


def test_uneven_planes_do_not_move_a_point(stack_of, blob):
    z = np.delete(np.arange(28) * 2.0, [4, 5, 20])
    point = np.array([12.0, -30.0, 60.0])
    stack = stack_of(partial(blob, centre=point), shape=(25, 40, 36), z_mm=z, spacings=(1.5, 3.0))
    for target in (1.5, 3.0):
        for found, _ in recovered(stack, point, (target,) * 3, cropped=False):
            assert np.abs(found - point).max() < 0.25 * target


def test_orienting_names_the_new_first_pixel():
    geometry = Geometry((10.0, 20.0, 30.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (2.0, 3.0))
    hu = np.arange(12, dtype=np.int16).reshape(3, 4)
    laid, new = plan.orient(hu, geometry)
    assert laid.shape == (4, 3)
    assert laid.flags["C_CONTIGUOUS"]
    assert (new.row_lps, new.column_lps, new.spacing_mm) == ((1, 0, 0), (0, 1, 0), (3.0, 2.0))
    assert new.position_lps_mm == (10 - 2 * 2, 20 - 3 * 3, 30)
    assert laid[0, 0] == hu[-1, -1]
    assert laid[1, 0] == hu[-1, -2]


def test_a_slice_that_lies_right_is_not_touched():
    geometry = Geometry((1.0, 2.0, 3.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.5))
    hu = np.ones((3, 4), np.float32)
    laid, new = plan.orient(hu, geometry)
    assert new == geometry
    assert np.shares_memory(laid, hu)


@given(st.integers(0, 47), st.floats(-20, 20), st.integers(0, 2))
def test_after_orienting_both_directions_point_up_their_axes(which, degrees, axis):
    turn = rotation(degrees, axis)
    row, column, _ = (turn @ v for v in SIGNED[which])
    geometry = Geometry((0, 0, 0), tuple(row), tuple(column), (1, 1))
    new = plan.turned(geometry, (5, 7), plan.turn_of(geometry))
    along = [int(np.abs(v).argmax()) for v in (new.row_lps, new.column_lps)]
    assert along[0] < along[1]
    assert new.row_lps[along[0]] > 0
    assert new.column_lps[along[1]] > 0


def test_the_grid_is_edge_aligned(stack_of, blob):
    stack = stack_of(partial(blob, centre=(0, 0, 0)), spacing=(2.5, 1.5, 1.5), shape=(8, 20, 20))
    grid = plan.grid_of(stack, (5.0, 3.0, 3.0))
    assert grid.shape == (4, 10, 10)
    native = plan.grid_of(stack)
    assert native.shape == (8, 20, 20)
    first = plan.to_lps(native, (0, 0, 0))
    assert np.allclose(first, stack.planes[0].geometry.position_lps_mm)
    assert np.allclose(plan.to_lps(grid, (0, 0, 0)) - first, (0.75, 0.75, 1.25))
    assert np.allclose(plan.to_index(native, plan.to_lps(grid, (-0.5,) * 3)), -0.5)


def test_a_sub_grid_moves_no_voxel(stack_of, blob):
    whole = plan.grid_of(stack_of(partial(blob, centre=(0, 0, 0))), (2.0, 2.0, 2.0))
    part = plan.sub_grid(whole, Box((1, 2, 3), (4, 8, 5)))
    assert part.shape == (3, 6, 2)
    assert np.allclose(plan.to_lps(part, (0, 1, 1)), plan.to_lps(whole, (1, 3, 4)))


def test_the_box_of_a_mask_holds_it_with_its_margin(stack_of, blob):
    stack = stack_of(partial(blob, centre=(0, 0, 0)))
    coarse, fine = plan.grid_of(stack, (3.0,) * 3), plan.grid_of(stack, (1.25,) * 3)
    voxels = np.zeros(coarse.shape, bool)
    voxels[5:9, 6, 7:9] = True
    mask = Mask("organ", voxels, coarse)
    assert plan.box_of_mask(mask, 0) == Box((5, 6, 7), (9, 7, 9))
    assert plan.box_of_mask(mask, 3.5) == Box((3, 4, 5), (11, 9, 11))
    assert plan.box_of_mask(mask, 500) == Box((0, 0, 0), coarse.shape)
    box = plan.box_on(coarse, Box((5, 6, 7), (9, 7, 9)), fine)
    low = plan.to_index(coarse, plan.to_lps(fine, np.asarray(box.low) - 0.5))
    high = plan.to_index(coarse, plan.to_lps(fine, np.asarray(box.high) - 0.5))
    assert np.all(low <= np.array([4.5, 5.5, 6.5]) + 1e-6)
    assert np.all(low > np.array([4.5, 5.5, 6.5]) - 1.25 / 3)
    assert np.all(high >= np.array([8.5, 6.5, 8.5]) - 1e-6)


def test_an_empty_mask_or_a_box_elsewhere_is_an_error(stack_of, blob):
    grid = plan.grid_of(stack_of(partial(blob, centre=(0, 0, 0))), (3.0,) * 3)
    with pytest.raises(ValueError, match="empty"):
        plan.box_of_mask(Mask("organ", np.zeros(grid.shape, bool), grid), 5)
    with pytest.raises(ValueError, match="outside"):
        plan.box_on(grid, Box((900, 0, 0), (901, 1, 1)), grid)


def test_planes_out_of_order_are_an_error():
    for z in ([0.0], [0.0, 0.0], [2.0, 1.0]):
        with pytest.raises(ValueError, match="plane"):
            plan.distance(np.asarray(z))


def test_nearest_plane_and_pixel(stack_of, blob):
    stack = stack_of(partial(blob, centre=(0, 0, 0)), row=(-1, 0, 0), normal=(0, 0, 1))
    plane = stack.planes[6]
    point = plan.centre(plane) + np.array([0.4 * 1.7, 0.4 * 1.5, 1.1])
    assert plan.nearest_plane(stack, point) == 6
    assert plan.nearest_pixel(plane.geometry, point) == (20, 18)
    assert plan.extent(stack) == pytest.approx((56 - 23 * 1.25, 56 + 23 * 1.25))


ORDERS = {
    "resample after crop": [Crop(margin_mm=1), Resample(spacing_mm=(1, 1, 1))],
    "two resamples": [Resample(spacing_mm=(1, 1, 1)), Resample(spacing_mm=(1, 1, 1))],
    "rescale after window": [WINDOW, Rescale()],
    "orient after resample": [Resample(spacing_mm=(1, 1, 1)), Orient()],
    "crop after pad": [Pad(multiple=4), Crop(margin_mm=1)],
    "two pads": [Pad(multiple=4), Pad(multiple=4)],
    "patch of a resampled grid": [Resample(spacing_mm=(1, 1, 1)), Patch(size=8)],
    "patch and pad": [Patch(size=8), Pad(multiple=4)],
    "patch after window": [WINDOW, Patch(size=8)],
    "empty window": [Window(low=5, high=5)],
    "no spacing": [Resample(spacing_mm=(1, 0, 1))],
}


@pytest.mark.parametrize("ops", ORDERS.values(), ids=ORDERS.keys())
def test_an_op_out_of_its_place_is_refused_by_name(ops):
    with pytest.raises(BundleRefused, match=r"op '\w+'") as refusal:
        plan.steps(ops)
    assert refusal.value.code == "bundle_preprocess"


def test_a_full_op_list_is_read():
    pad, score = Pad(multiple=16), ZScore(mean=0.5, std=0.2)
    read = plan.steps(
        [Rescale(), Orient(), Resample(spacing_mm=(1, 2, 2)), Crop(margin_mm=4), WINDOW, pad, score]
    )
    assert read.spacing_mm == (1, 2, 2)
    assert read.crop == Crop(margin_mm=4)
    assert read.points == (WINDOW, pad, score)


def test_a_crop_op_needs_a_box_and_a_box_alone_crops_nothing(stack_of, blob):
    stack = stack_of(partial(blob, centre=(0, 0, 0)))
    for make in (reference.apply, fast.tensor):
        with pytest.raises(ValueError, match="needs a box"):
            make(stack, [Crop(margin_mm=1)], None)
        array, _ = make(stack, [], (plan.grid_of(stack), Box((0, 0, 0), (1, 1, 1))))
        assert array.shape == (1, 1, 24, 40, 36)
