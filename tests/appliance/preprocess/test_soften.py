"""The op `soften`: what it is, by what must hold of a Gaussian, and that fast is the reference."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from appliance.errors import BundleRefused
from appliance.preprocess import fast, plan, reference
from appliance.preprocess.spec import Crop, Cube, Pad, Patch, Resample, Soften, Window
from appliance.records import Box

WINDOW = Window(low=-1000, high=400)
EXACT = 1e-5
"""Of a window of 1400 HU: how far fast may be from the reference; a two-hundredth of what a backend
may (backend.protocol.TOLERANCE)."""
sds = st.one_of(st.floats(0.05, 4.0), st.sampled_from([0.4, 0.6, 0.8, 1.0]))


@given(sd=st.floats(0.05, 8.0))
def test_weights_add_up_to_one_and_have_their_sd_however_wide_the_voxels_are(sd):
    reach = plan.reach(sd, 1.0)
    weights = reference.gaussian(sd, reach).astype(np.float64)
    places = np.arange(-reach, reach + 1)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert weights @ places**2 == pytest.approx(sd**2, rel=5e-3)
    assert (weights >= 0).all()
    assert np.array_equal(weights, weights[::-1])


@given(first=st.floats(0.2, 2.0), second=st.floats(0.2, 2.0), mm=st.floats(0.4, 3.0))
def test_two_gaussians_are_the_one_of_their_variances(first, second, mm):
    values = np.random.default_rng(3).normal(size=(1, 90)).astype(np.float32)
    twice = reference.softened(reference.softened(values, (mm,), first), (mm,), second)
    once = reference.softened(values, (mm,), math.hypot(first, second))
    far = plan.reach(4.0, mm)  # away from the repeated edges
    if 2 * far < 90:
        assert np.abs(twice - once)[:, far:-far].max(initial=0) < 2e-3


def test_millimetres_count_on_every_axis(stack_of, blob):
    """A blob of SD 5 mm becomes one of sqrt(25 + sd^2), alike along axes of 2.5, 1.5 and 1.7 mm."""
    stack = stack_of(partial(blob, centre=(12, -34, 56)), shape=(40, 60, 56))
    volume, grid = reference.apply(stack, [Soften(sd_mm=3.0)], None)
    share = (volume[0, 0] + 1000) / 1400
    at = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    away = plan.to_lps(grid, at) - (12, -34, 56)
    for axis in range(3):
        sd = math.sqrt(float((share * away[..., axis] ** 2).sum() / share.sum()))
        assert sd == pytest.approx(math.hypot(5, 3), rel=0.02)


def test_an_sd_of_zero_changes_nothing(stack_of, blob):
    stack = stack_of(partial(blob, centre=(12, -34, 56)))
    ops = [Resample(spacing_mm=(2, 2, 2)), WINDOW]
    for make in (reference.apply, fast.tensor):
        plain, _ = make(stack, ops, None)
        same, _ = make(stack, [ops[0], Soften(sd_mm=0), WINDOW], None)
        assert np.array_equal(plain, same)
    centers = [(12.0, -34.0, 56.0)]
    for cut in (Cube(size=9, spacing_mm=0.8), Patch(size=9)):
        plain = fast.gathered(stack, [cut, WINDOW], centers)
        assert np.array_equal(fast.gathered(stack, [cut, Soften(sd_mm=0), WINDOW], centers), plain)


@pytest.mark.parametrize("make", [reference.apply, fast.tensor])
def test_edges_are_repeated_and_a_constant_stays(stack_of, make):
    flat = stack_of(lambda lps: np.full(lps.shape[:-1], 37.0))
    made, _ = make(flat, [Resample(spacing_mm=(2, 1, 1)), Soften(sd_mm=2.5)], None)
    assert np.abs(made - 37).max() < 1e-3
    step = np.repeat([[0.0, 100.0]], 1, axis=0)
    soft = reference.softened(step.astype(np.float32), (1.0,), 0.8)
    half = reference.gaussian(0.8, plan.reach(0.8, 1.0))[: plan.reach(0.8, 1.0)].sum()
    assert soft[0] == pytest.approx([100 * half, 100 * (1 - half)], abs=1e-3)


@pytest.mark.parametrize("make", [reference.apply, fast.tensor])
def test_a_crop_changes_no_voxel(stack_of, make):
    noise = np.random.default_rng(4)
    stack = stack_of(lambda lps: noise.uniform(-1000, 400, lps.shape[:-1]))
    ops = (Resample(spacing_mm=(2, 1.5, 1.5)), Soften(sd_mm=1.2), WINDOW)
    whole, grid = make(stack, ops, None)
    low, high = (3, 0, 7), (11, 9, grid.shape[2])
    cut, _ = make(stack, (ops[0], Crop(margin_mm=0), *ops[1:]), (grid, Box(low, high)))
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    assert np.abs(cut[0, 0] - whole[0, 0][inside]).max() < 1e-6


def test_a_cube_and_a_patch_see_what_lies_around_them(stack_of):
    """Their voxels are those of larger ones: no edge is repeated inside the series."""
    noise = np.random.default_rng(5)
    stack = stack_of(lambda lps: noise.uniform(-1000, 400, lps.shape[:-1]))
    center, soften = [(12.0, -34.0, 56.0)], Soften(sd_mm=1.3)
    for small, large in (
        (Cube(size=9, spacing_mm=0.8), Cube(size=41, spacing_mm=0.8)),
        (Patch(size=9), Patch(size=41)),
    ):
        few = fast.gathered(stack, [small, soften], center)
        many = fast.gathered(stack, [large, soften], center)
        inside = (..., *(slice(16, 25),) * (few.ndim - 2))
        assert np.abs(few - many[inside]).max() < 1e-2
        assert few.std() < 0.7 * fast.gathered(stack, [small], center).std()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_fast_is_the_reference(stack_of, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    planes, gap = data.draw(st.integers(2, 14)), data.draw(st.floats(0.6, 5.0))
    pixels = st.floats(0.4, 3.0)
    down, across, target = (data.draw(pixels) for _ in range(3))
    stack = stack_of(
        lambda lps: rng.integers(-1024, 3072, lps.shape[:-1]),
        normal=(0, 0, 1),
        shape=(planes, data.draw(st.integers(6, 24)), data.draw(st.integers(6, 24))),
        spacing=(gap, down, across),
        z_mm=np.cumsum(rng.choice([gap, gap, gap, 2.5 * gap], planes)),
        spacings=[target] if data.draw(st.booleans()) else [],
    )
    soften = Soften(sd_mm=data.draw(sds))
    ops = [Resample(spacing_mm=(data.draw(pixels), target, target)), soften, WINDOW]
    if data.draw(st.booleans()):
        ops.append(Pad(multiple=8, value=0.3))
    crop = None
    if data.draw(st.booleans()):
        ops.insert(1, Crop(margin_mm=3))
        whole = plan.grid_of(stack, ops[0].spacing_mm)
        low = [data.draw(st.integers(0, n - 1)) for n in whole.shape]
        high = [data.draw(st.integers(a + 1, n)) for a, n in zip(low, whole.shape, strict=True)]
        crop = (whole, Box(tuple(low), tuple(high)))
    slow, slow_grid = reference.apply(stack, ops, crop)
    quick, quick_grid = fast.tensor(stack, ops, crop)
    assert quick.shape == slow.shape
    assert np.array_equal(quick_grid.to_lps, slow_grid.to_lps)
    assert np.abs(quick - slow).max() < EXACT


@pytest.mark.parametrize("sd_mm", [0.4, 1.3])
def test_gathered_cubes_and_patches_are_the_references(stack_of, sd_mm):
    noise = np.random.default_rng(6)
    stack = stack_of(lambda lps: noise.uniform(-1024, 800, lps.shape[:-1]))
    grid = plan.grid_of(stack)
    places = [(0.5, 0.5, 0.5), (0.5, 0.01, 0.3), (1.0, 0.4, 1.01), (0, 1, 0), (9, 9, 9)]
    centers = [plan.vector(plan.to_lps(grid, np.multiply(p, grid.shape) - 0.5)) for p in places]
    ops = [Cube(size=11, spacing_mm=0.8), Soften(sd_mm=sd_mm), WINDOW]
    expected = reference.apply_patches(stack, ops, centers)
    assert expected.shape == (5, 1, 11, 11, 11)
    assert np.abs(fast.gathered(stack, ops, centers) - expected).max() < EXACT
    assert fast.gathered(stack, ops, []).shape == (0, 1, 11, 11, 11)
    ops = [Patch(size=12), Soften(sd_mm=sd_mm), WINDOW]
    expected = reference.apply_patches(stack, ops, centers, 8)
    assert expected.shape == (40, 1, 12, 12)
    assert np.array_equal(fast.gathered(stack, ops, centers, 8), expected)
    one = reference.apply_patches(stack, ops, centers)
    assert np.array_equal(reference.views(one, 8), expected), "softened in the patient's own axes"


@pytest.mark.parametrize(
    "ops",
    [
        [WINDOW, Soften(sd_mm=1)],
        [Soften(sd_mm=1), Resample(spacing_mm=(1, 1, 1))],
        [Soften(sd_mm=1), Crop(margin_mm=1)],
        [Soften(sd_mm=0), Cube(size=8, spacing_mm=1)],
        [Soften(sd_mm=1), Soften(sd_mm=1)],
    ],
)
def test_it_stands_after_what_it_softens_and_before_the_window(ops):
    with pytest.raises(BundleRefused, match="cannot stand here") as e:
        plan.steps(ops)
    assert e.value.code == "bundle_preprocess"


@pytest.mark.parametrize("sd_mm", [-0.1, 4.1, float("nan"), float("inf")])
def test_no_other_sd_is_an_op(sd_mm):
    with pytest.raises(ValidationError):
        Soften(sd_mm=sd_mm)
