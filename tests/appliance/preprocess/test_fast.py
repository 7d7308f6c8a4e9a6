"""Fast is the reference, within the tolerance of the backend contract."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.backend.protocol import TOLERANCE
from appliance.preprocess import fast, plan, reference
from appliance.preprocess.spec import Crop, Cube, Pad, Patch, Resample, Window, ZScore
from appliance.records import Box

WINDOW = Window(low=-1000, high=400)
WIDE_HU = TOLERANCE * 1400
"""The tolerance in HU of the narrowest window in use; held even for values beyond the window."""
SPECIAL_MM = [0.5, 0.625, 0.703125, 0.9765625, 1.0, 1.25, 2.0, 2.5, 3.0]
spacings = st.one_of(st.floats(0.3, 5.0), st.sampled_from(SPECIAL_MM))
pairs = st.tuples(spacings, spacings)


@settings(deadline=None, max_examples=300)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    spacing=pairs,
    target=pairs,
    dtype=st.sampled_from([np.int16, np.float32]),
)
@example((5, 7), (1.0, 1.0), (2.0, 2.0), np.int16)
@example((2, 2), (1.0, 2.0), (1.0, 2.5), np.int16)  # as many pixels as before: cv2 copies
@example((33, 1), (0.7, 0.7), (1.25, 1.25), np.float32)
@example((40, 40), (0.7, 2.5), (1.25, 1.25), np.float32)
def test_any_slice_at_any_spacing(shape, spacing, target, dtype):
    hu = np.random.default_rng(shape[0]).integers(-1024, 3072, shape).astype(dtype)
    slow = reference.inplane(hu, spacing, target)
    quick = fast.inplane(hu, spacing, target)
    assert quick.shape == slow.shape
    assert quick.dtype == np.float32
    assert np.abs(quick - slow).max() < WIDE_HU


def test_no_product_is_large_enough_for_a_second_thread(monkeypatch):
    sizes = []

    def noted(a, b, out):
        sizes.append(a.size * b.shape[1])
        out[:] = a @ b

    monkeypatch.setattr(fast.np, "matmul", noted)
    fast.inplane(np.zeros((1024, 1024), np.int16), (0.3, 0.3), 3.0)
    assert max(sizes) < fast.SHARED_OUT


def test_a_sliver_of_a_bright_pixel_counts():
    hu = np.full((600, 600), -1024, np.int16)
    hu[1, :] = hu[:, 1] = 3071  # a share below 1/1000 of it lies in the first voxel: cv2 drops it
    slow = reference.inplane(hu, (1.0, 1.0), 1.0009)
    assert np.abs(fast.inplane(hu, (1.0, 1.0), 1.0009) - slow).max() < WIDE_HU


POINTS = [
    (),
    (WINDOW,),
    (WINDOW, Pad(multiple=16)),
    (WINDOW, ZScore(mean=0.2, std=0.3)),
    (ZScore(mean=-700, std=900), Pad(multiple=8, value=-3)),
    (Pad(multiple=8, value=-1000), WINDOW, ZScore(mean=0.2, std=0.3)),
    (WINDOW, Window(low=0.25, high=0.5)),
]
SCALE = [1400, 1, 1, 1 / 0.3, 1400 / 900, 1 / 0.3, 1 / 0.25]
"""What each list makes of one unit of the window: the tolerance grows with it."""


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_stack_crop_and_op_list(stack_of, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    planes, gap = data.draw(st.integers(2, 14)), data.draw(st.floats(0.6, 5.0))
    pixel, target = data.draw(pairs)
    points = data.draw(st.sampled_from(POINTS))
    flips = data.draw(st.tuples(*[st.sampled_from([-1, 1])] * 2))
    stack = stack_of(
        lambda lps: rng.integers(-1024, 3072, lps.shape[:-1]),
        row=(0, flips[0], 0),
        column=(flips[1], 0, 0),
        normal=(0, 0, 1),
        shape=(planes, data.draw(st.integers(6, 24)), data.draw(st.integers(6, 24))),
        spacing=(gap, pixel, pixel),
        z_mm=np.cumsum(rng.choice([gap, gap, gap, 2.5 * gap], planes)),
        spacings=[target] if data.draw(st.booleans()) else [],
    )
    through = data.draw(spacings)
    ops = [Resample(spacing_mm=(through, target, target)), *points]
    crop = None
    if data.draw(st.booleans()):
        ops.insert(1, Crop(margin_mm=3))
        coarse = plan.grid_of(stack, (3.0, 3.0, 3.0))
        low = [data.draw(st.integers(0, n - 1)) for n in coarse.shape]
        high = [data.draw(st.integers(a + 1, n)) for a, n in zip(low, coarse.shape, strict=True)]
        crop = (coarse, Box(tuple(low), tuple(high)))
        try:
            plan.placed(stack, plan.steps(ops), crop)
        except ValueError:
            return  # the box lies in the last half voxel, which the coarser of two grids may lack
    slow, slow_grid = reference.apply(stack, ops, crop)
    quick, quick_grid = fast.tensor(stack, ops, crop)
    assert quick.shape == slow.shape
    assert quick_grid.shape == slow_grid.shape
    assert np.array_equal(quick_grid.to_lps, slow_grid.to_lps)
    scale = SCALE[POINTS.index(points)]
    assert np.abs(quick - slow).max() < TOLERANCE * scale


def test_a_plane_keeps_the_scanners_pixels_and_each_spacing_once(stack_of, blob):
    stack = stack_of(partial(blob, centre=(0, 0, 0)), dtype=np.int16, spacings=[1.25, 3.0, 1.25])
    plane = stack.planes[0]
    assert plane.native.dtype == np.int16
    assert sorted(plane.resampled) == [1.25, 3.0]
    assert all(a.dtype == np.float32 for a in plane.resampled.values())


def test_without_a_resample_op_the_stack_keeps_its_own_spacing(stack_of, blob):
    stack = stack_of(partial(blob, centre=(12, -34, 56)), dtype=np.int16)
    array, grid = fast.tensor(stack, [WINDOW], None)
    native = np.stack([p.native for p in stack.planes]).astype(np.float32)
    assert array.shape == (1, 1, *native.shape)
    assert np.allclose(array[0, 0], reference.window(native, -1000, 400), atol=1e-6)
    assert grid.spacing_mm == pytest.approx(stack.spacing_mm)


def test_the_kept_planes_are_not_written_to(stack_of, blob):
    stack = stack_of(partial(blob, centre=(12, -34, 56)), spacing=(2, 2, 2), spacings=[2.0])
    before = [p.resampled[2.0].copy() for p in stack.planes]
    for target in (1.0, 2.0, 5.0):
        fast.tensor(stack, [Resample(spacing_mm=(target, 2, 2)), WINDOW], None)
    assert all(
        np.array_equal(a, p.resampled[2.0]) for a, p in zip(before, stack.planes, strict=True)
    )


@pytest.mark.parametrize(
    "ops",
    [[], [Window(low=-1000, high=400)], [ZScore(mean=-300, std=250), Window(low=-0.5, high=0.7)]],
)
@pytest.mark.parametrize(
    ("spacing", "z_mm"),
    [((2.5, 1.5, 1.7), None), ((0.3, 0.25, 0.4), None), ((5.0, 0.7, 0.7), [0, 4, 10, 15.5])],
)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_gathered_cubes_are_the_references(stack_of, ops, spacing, z_mm, dtype):
    """In the middle, across every edge, outside; voxels finer than the cube's, uneven planes."""
    shape = (24 if z_mm is None else len(z_mm), 40, 36)
    z = None if z_mm is None else np.asarray(z_mm, np.float64)
    noise = np.random.default_rng(2)
    stack = stack_of(
        lambda lps: noise.uniform(-1024, 800, lps.shape[:-1]),
        shape=shape, spacing=spacing, z_mm=z, dtype=dtype,
    )  # fmt: skip
    grid = plan.grid_of(stack)
    places = [(0.5, 0.5, 0.5), (0.5, 0.01, 0.3), (1.0, 0.4, 1.01), (0, 1, 0), (9, 9, 9)]
    centers = [plan.vector(plan.to_lps(grid, np.multiply(p, grid.shape) - 0.5)) for p in places]
    every = [Cube(size=11, spacing_mm=0.8), *ops]
    expected = reference.apply_patches(stack, every, centers)
    given = fast.gathered(stack, every, centers)
    assert given.shape == expected.shape == (5, 1, 11, 11, 11)
    scale = np.abs(expected).max()
    assert np.abs(given - expected).max() <= 1e-5 * scale
    assert len(np.unique(expected[0])) > 100
    assert fast.gathered(stack, every, []).shape == (0, 1, 11, 11, 11)


def test_gathered_patches_are_the_references_and_a_cube_has_one_view(stack_of, blob):
    stack = stack_of(partial(blob, centre=(12, -34, 56)))
    ops = [Patch(size=8), Window(low=-1000, high=400)]
    centers = [(12.0, -34.0, 56.0)]
    expected = reference.apply_patches(stack, ops, centers, 8)
    assert np.array_equal(fast.gathered(stack, ops, centers, 8), expected)
    for ops in ([Cube(size=8, spacing_mm=1)], []):
        with pytest.raises(ValueError, match="patch"):
            fast.gathered(stack, ops, centers, 8)
