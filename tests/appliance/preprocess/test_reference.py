"""The definition, checked by hand-sized numbers and by what must hold of any resampling."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.preprocess import plan, reference
from appliance.preprocess.spec import (
    Crop,
    Cube,
    Orient,
    Pad,
    Patch,
    Resample,
    Rescale,
    Window,
    ZScore,
)
from appliance.records import Box

mm = st.floats(0.3, 6.0)


def test_shrinking_averages_exact_intervals():
    weights = reference.axis_weights(5, 1.0, 2.5)
    assert np.allclose(weights, [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]])


def test_the_last_voxel_averages_what_there_is():
    assert np.allclose(
        reference.axis_weights(5, 1.0, 3.0), [[1 / 3] * 3 + [0] * 2, [0] * 3 + [0.5] * 2]
    )


def test_growing_is_linear_between_centres_with_the_edge_repeated():
    weights = reference.axis_weights(2, 2.0, 1.0)
    assert np.allclose(weights, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_the_same_spacing_changes_nothing():
    hu = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    assert np.array_equal(reference.inplane(hu, (0.7, 0.9), (0.7, 0.9)), hu)


def test_an_axis_never_vanishes():
    assert np.allclose(reference.axis_weights(2, 1.0, 9.0), [[0.5, 0.5]])
    assert np.allclose(reference.axis_weights(1, 1.0, 0.25), np.ones((4, 1)))


def test_halves_are_rounded_to_even():
    assert [plan.count(n, 1.0, 2.0) for n in (1, 3, 5, 7)] == [1, 2, 2, 4]


@given(st.integers(1, 60), mm, mm)
def test_weights_sum_to_one_and_keep_order(pixels, spacing, target):
    weights = reference.axis_weights(pixels, spacing, target)
    assert np.allclose(weights.sum(1), 1, atol=1e-5)
    assert weights.min() >= 0
    centres = weights @ np.arange(pixels)
    assert np.all(np.diff(centres) > -1e-4)


@given(st.integers(1, 90), mm, mm, st.integers(1, 20), st.data())
def test_a_band_is_rows_of_the_whole_matrix_without_zeros_around(
    pixels, spacing, target, size, data
):
    whole = reference.axis_weights(pixels, spacing, target)
    first = data.draw(st.integers(0, len(whole) - 1))
    voxels = slice(first, min(first + size, len(whole)))
    low, band = reference.band_weights(pixels, spacing, target, voxels)
    put = np.zeros_like(whole[voxels])
    put[:, low : low + band.shape[1]] = band
    assert np.allclose(put, whole[voxels], atol=1e-6)
    assert band[:, 0].any()
    assert band[:, -1].any()


@given(st.integers(2, 30), st.integers(0, 3), mm, mm)
def test_even_planes_are_weighted_like_an_axis(planes, start, spacing, target):
    z = start + np.arange(planes) * spacing
    even = reference.axis_weights(planes, spacing, target)
    along = reference.plane_weights(z, target)
    if len(even) == len(along):  # a half may be rounded either way when positions carry noise
        assert np.allclose(even, along, atol=1e-4)
    else:
        assert abs(planes * spacing / target % 1 - 0.5) < 1e-6


def test_each_plane_owns_the_interval_to_the_midpoints():
    z = np.array([0.0, 1.0, 2.0, 4.0, 5.0])  # one hole: planes at 2 and 4 own half of it each
    weights = reference.plane_weights(z, 3.0)
    assert np.allclose(weights, [[1 / 3, 1 / 3, 1 / 3, 0, 0], [0, 0, 1 / 6, 0.5, 1 / 3]])


def test_a_hole_is_bridged_linearly_where_z_grows():
    z = np.array([0.0, 2.0, 4.0, 8.0, 10.0])
    weights = reference.plane_weights(z, 1.0)
    at = np.arange(-0.5, 11, 1.0)
    assert weights.shape == (12, 5)
    assert np.allclose(weights @ z, np.clip(at, 0, 10), atol=1e-5)


def test_inplane_takes_each_axis_by_itself():
    hu = np.random.default_rng(1).integers(-1000, 400, (6, 8)).astype(np.int16)
    out = reference.inplane(hu, (0.5, 2.0), 1.0)
    assert out.shape == (3, 16)
    down = hu.reshape(3, 2, 8).mean(1)
    assert np.allclose(out[:, 1:-1:2], down[:, :-1] * 0.75 + down[:, 1:] * 0.25)
    assert np.array_equal(out, reference.inplane(hu, (0.5, 2.0), (1.0, 1.0)))


def test_window_zscore_pad_and_crop():
    hu = np.array([[[-2000, -1000, -300, 400, 3000]]], np.float32)
    seen = reference.window(hu, -1000, 400)
    assert np.allclose(seen, [[[0, 0, 0.5, 1, 1]]])
    assert np.allclose(reference.zscore(seen, 0.5, 0.25), [[[-2, -2, 0, 2, 2]]])
    padded = reference.pad(seen, 4, 7.0)
    assert padded.shape == (4, 4, 8)
    assert np.array_equal(padded[:1, :1, :5], seen)
    assert padded[1:].min() == 7.0
    assert reference.pad(padded, 4).shape == padded.shape
    assert np.array_equal(reference.crop(hu, Box((0, 0, 1), (1, 1, 3))), hu[:, :, 1:3])


def test_ops_run_in_their_order(stack_of, blob):
    stack = stack_of(partial(blob, centre=(12, -34, 56)), shape=(6, 9, 9))
    head = [Rescale(), Orient(), Resample(spacing_mm=(3, 3, 3))]
    window, score = Window(low=-1000, high=400), ZScore(mean=1, std=2)
    early, grid = reference.apply(stack, [*head, Pad(multiple=16, value=-300), window, score], None)
    late, _ = reference.apply(stack, [*head, window, score, Pad(multiple=16, value=-300)], None)
    z, y, x = grid.shape
    assert early.dtype == np.float32
    assert np.array_equal(early[..., :z, :y, :x], late[..., :z, :y, :x])
    assert early[0, 0, -1, -1, -1] == (0.5 - 1) / 2
    assert late[0, 0, -1, -1, -1] == -300


def test_a_crop_is_a_part_of_the_whole(stack_of, blob):
    stack = stack_of(partial(blob, centre=(12, -34, 56)))
    ops = [Resample(spacing_mm=(2, 2, 2))]
    whole, grid = reference.apply(stack, ops, None)
    box = Box((3, 4, 5), (9, 12, 11))
    part, there = reference.apply(stack, [*ops, Crop(margin_mm=9)], (grid, box))
    assert np.array_equal(part[0, 0], whole[0, 0, 3:9, 4:12, 5:11])
    assert np.array_equal(there.to_lps, plan.sub_grid(grid, box).to_lps)


def test_a_patch_has_its_centre_where_the_op_says(stack_of, blob):
    stack = stack_of(partial(blob, centre=(0, 0, 0)), shape=(5, 30, 31), spacing=(2, 1, 1))
    planes = []
    for k, one in enumerate(stack.planes):
        native = np.zeros((30, 31), np.float32)
        native[10, 20] = k
        planes.append(replace(one, native=native))
    stack = replace(stack, planes=tuple(planes))
    point = plan.to_lps(plan.grid_of(stack), (3.2, 10.4, 19.6))
    for size in (8, 9):
        patch = reference.patches(stack, [tuple(point)], size)
        assert patch.shape == (1, 1, size, size)
        assert patch[0, 0, size // 2, size // 2] == 3
        assert patch.sum() == 3


@pytest.mark.parametrize(
    "index", [(0, 0, 0), (4, 29, 30), (2, -3, 50), (2, 500, 10), (0, -40, -40)]
)
def test_outside_of_the_image_a_patch_is_air(stack_of, blob, index):
    stack = stack_of(partial(blob, centre=(0, 0, 0)), shape=(5, 30, 31), spacing=(2, 1, 1))
    point = tuple(plan.to_lps(plan.grid_of(stack), index))
    patch = reference.patches(stack, [point], 12)[0, 0]
    native = stack.planes[index[0]].native
    for r in range(12):
        for c in range(12):
            y, x = index[1] - 6 + r, index[2] - 6 + c
            inside = 0 <= y < 30 and 0 <= x < 31
            assert patch[r, c] == (native[y, x] if inside else -1000)


def test_no_centre_no_patch(stack_of, blob):
    stack = stack_of(partial(blob, centre=(0, 0, 0)), shape=(5, 30, 31))
    assert reference.apply_patches(stack, [Patch(size=8)], [], 8).shape == (0, 1, 8, 8)
    with pytest.raises(ValueError, match="patch"):
        reference.apply_patches(stack, [], [], 8)


def test_the_eight_views_are_all_flips_and_quarter_turns():
    patch = np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4)
    seen = reference.views(patch, 8)
    assert seen.shape == (16, 1, 4, 4)
    expected = {
        np.rot90(one, k).tobytes() for k in range(4) for one in (patch[1, 0], patch[1, 0].T)
    }
    assert {one.tobytes() for one in seen[8:, 0]} == expected
    for number in (1, 2, 4):
        fewer = reference.views(patch, number)
        assert np.array_equal(fewer[:number], seen[:number])
        assert np.array_equal(fewer[0], patch[0])


def test_patches_are_windowed_like_volumes(stack_of, blob):
    stack = stack_of(partial(blob, centre=(12, -34, 56)))
    ops = [Patch(size=8), Window(low=-1000, high=400)]
    seen = reference.apply_patches(stack, ops, [(12.0, -34.0, 56.0)], 2)
    assert seen.shape == (2, 1, 8, 8)
    assert 0.8 < seen.max() <= 1


@pytest.mark.parametrize("row", [(1, 0, 0), (-1, 0, 0), (0.8, 0.6, 0)])
@pytest.mark.parametrize("column", [(0, 1, 0), (0, -1, 0)])
def test_a_cube_says_where_each_of_its_voxels_lies_in_the_patient(stack_of, row, column):
    column = (-0.6, 0.8, 0) if row == (0.8, 0.6, 0) else column
    uneven = np.cumsum([0, *[2.5, 2.0, 3.0] * 8])

    def slope(lps):
        return 3 * lps[..., 0] - 5 * lps[..., 1] + 7 * lps[..., 2]

    normal = (0, 0, 1)
    stack = stack_of(slope, row=row, column=column, normal=normal, z_mm=uneven, shape=(25, 40, 36))
    op, center = Cube(size=9, spacing_mm=0.8), (10.3, -30.4, 52.6)
    cube = reference.apply_patches(stack, [op], [center])
    grid = plan.cube_grid(stack, center, op)
    assert np.allclose(plan.to_lps(grid, (4, 4, 4)), center)
    at = np.stack(np.meshgrid(*[np.arange(9)] * 3, indexing="ij"), axis=-1)
    assert np.allclose(cube[0, 0], slope(plan.to_lps(grid, at)), atol=1.5)  # HU are whole numbers


def test_outside_of_the_series_a_cube_is_air(stack_of):
    stack = stack_of(
        lambda lps: np.full(lps.shape[:-1], 40.0), shape=(6, 20, 20), spacing=(2, 1, 1)
    )
    low = plan.to_lps(plan.grid_of(stack), (-0.4, 9.5, 9.5))
    cube = reference.apply_patches(stack, [Cube(size=9, spacing_mm=1.0)], [tuple(low)])[0, 0]
    assert (cube[:4] == -1000).all()
    assert (cube[4:, 4, 4] == 40).all()
    far = reference.apply_patches(stack, [Cube(size=9, spacing_mm=1.0)], [(900.0, 0.0, 0.0)])
    assert (far == -1000).all()


def test_a_cube_has_one_view(stack_of, blob):
    stack = stack_of(partial(blob, centre=(0, 0, 0)))
    assert reference.apply_patches(stack, [Cube(size=8, spacing_mm=1)], []).shape == (0, 1, 8, 8, 8)
    with pytest.raises(ValueError, match="views of a cube"):
        reference.apply_patches(stack, [Cube(size=8, spacing_mm=1)], [], 8)
