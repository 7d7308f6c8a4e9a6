"""Implants in a series in memory: where they are, how they look, and that nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from appliance.preprocess import fast
from appliance.quality import insert
from appliance.quality.implant import KINDS, correlated_noise, sphere_diameter
from appliance.quality.insert import Look, Wanted
from appliance.records import Stack
from rigs import slices
from rigs.balls import ball

SHAPES = [ball(d) for d in np.geomspace(4, 24, 12)]
EVEN = Look(noise_hu=0.0, grain_mm=0.5, spread_mm=0.5)
IN_LUNG = (-45.5, 0.5, 21.0)
"""LPS mm: a lung of the rig has its middle at x -100 + 119.5 -+ 55, y -100 + 119.5."""
LEFT = (74.5, 19.5, 21.0)
RIGHT = (-35.5, 19.5, 21.0)


def chest(sd: float = 0.0, count: int = 24) -> Stack:
    made = slices.stack([slices.body(sd=sd, seed=k) for k in range(count)])
    planes = [
        replace(p, resampled={1.5: fast.inplane(p.native, p.geometry.spacing_mm, 1.5)})
        for p in made.planes
    ]
    return replace(made, planes=tuple(planes))


def hu(stack: Stack) -> np.ndarray:
    return np.stack([plane.native for plane in stack.planes]).astype(np.float64)


def test_an_implant_is_where_and_as_large_as_its_truth_says() -> None:
    before = chest()
    after, truth = insert.implants(before, SHAPES, [Wanted(14.0, (LEFT,), "calcified")], 5, EVEN)
    assert [(one.center_lps_mm, one.diameter_mm) for one in truth] == [(LEFT, 14.0)]
    risen = hu(after) - hu(before)
    risen /= risen.max()
    z, y, x = np.indices(risen.shape)
    for index, step, origin, wanted in zip(
        (x, y, z), (1.0, 1.0, 2.0), (-100, -100, 0), LEFT, strict=True
    ):
        at = float((risen * index).sum() / risen.sum()) * step + origin
        assert at == pytest.approx(wanted, abs=0.6)
    assert sphere_diameter(float(risen.sum()) * 2.0) == pytest.approx(14.0, rel=0.12)


def test_the_given_series_stays_and_shares_what_no_implant_reaches() -> None:
    before = chest()
    held = hu(before)
    after, truth = insert.implants(before, SHAPES, [Wanted(10.0, (LEFT,))], 5)
    assert truth
    np.testing.assert_array_equal(hu(before), held)
    changed = [
        bool((a.native != b.native).any()) for a, b in zip(after.planes, before.planes, strict=True)
    ]
    assert 4 <= sum(changed) < len(changed)
    for now, was, other in zip(after.planes, before.planes, changed, strict=True):
        assert (now is was) is not other
        if other:
            assert now.digest != was.digest
            assert now.facts is None
            assert now.native.dtype == np.int16
            fresh = fast.inplane(now.native, now.geometry.spacing_mm, 1.5)
            np.testing.assert_array_equal(now.resampled[1.5], fresh)
    away = np.abs(hu(after) - held).max(axis=(0, 1))
    assert not away[:135].any(), "the other lung"


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    series, wanted = chest(15.0), [Wanted(9.0, (LEFT,)), Wanted(12.0, (RIGHT,), "part_solid")]
    first, again, other = (
        hu(insert.implants(series, SHAPES, wanted, seed)[0]) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_pixels_in_float_get_the_same_implants() -> None:
    series = chest(15.0)
    planes = [replace(p, native=p.native.astype(np.float32)) for p in series.planes]
    wanted = [Wanted(9.0, (LEFT,))]
    whole = hu(insert.implants(series, SHAPES, wanted, 3)[0])
    exact = hu(insert.implants(replace(series, planes=tuple(planes)), SHAPES, wanted, 3)[0])
    assert np.abs(whole - exact).max() <= 0.5


def test_what_could_not_be_seen_goes_to_the_next_place_or_nowhere() -> None:
    wall, outside, end = (19.5, 70.0, 21.0), (500.0, 0.0, 0.0), (74.5, 19.5, 0.0)
    wanted = [
        Wanted(8.0, (wall, outside, end, LEFT)),
        Wanted(8.0, (LEFT, (LEFT[0] + 15.0, LEFT[1], LEFT[2]))),
        Wanted(8.0, (wall,)),
        Wanted(6.0, ()),
    ]
    after, truth = insert.implants(chest(), SHAPES, wanted, 5)
    assert [one.center_lps_mm for one in truth] == [LEFT]
    assert (hu(after) != hu(chest())).any()


def test_slices_with_a_hole_are_refused() -> None:
    whole = chest()
    kept = [*range(10), *range(12, 24)]
    z = whole.z_mm[kept]
    holed = replace(whole, planes=tuple(whole.planes[k] for k in kept), z_mm=z)
    with pytest.raises(ValueError, match="not evenly spaced"):
        insert.implants(holed, SHAPES, [Wanted(8.0, (LEFT,))], 5)


def test_places_lie_in_the_lungs_and_clear_of_what_is_there() -> None:
    lungs = slices.lungs(chest().planes)
    taken = [(LEFT, 20.0)]
    wanted = insert.places(lungs, taken, [5.0, 9.0, 14.0], seed=2, tries=60)
    assert [one.diameter_mm for one in wanted] == [5.0, 9.0, 14.0]
    assert wanted == insert.places(lungs, taken, [5.0, 9.0, 14.0], seed=2, tries=60)
    for one in wanted:
        assert len(one.centers_lps_mm) > 10
        for center in one.centers_lps_mm:
            x, y, z = np.rint((np.array(center) - [-100, -100, 0]) / [1, 1, 2]).astype(int)
            assert lungs.voxels[z, y - 1 : y + 2, x - 1 : x + 2].any()
            away = float(np.linalg.norm(np.subtract(center, LEFT)))
            assert away > (20.0 + one.diameter_mm) / 2 + insert.CLEAR_MM
    with pytest.raises(ValueError, match="no lungs"):
        insert.places(slices.lungs(chest().planes, 0, 0), (), [5.0], 1)


def scanned(spread_mm: float, noise_hu: float, grain_px: float) -> Stack:
    """Bodies under a point spread, with noise of this size and grain."""
    images = []
    for k in range(24):
        fine = cv2.GaussianBlur(slices.body(sd=0), (0, 0), max(spread_mm, 0.01))
        grain = correlated_noise(np.random.default_rng(k), (1, *fine.shape), grain_px)[0]
        images.append(fine + noise_hu * grain)
    return slices.stack(images)


@pytest.mark.parametrize("grain_px", [0.4, 0.6, 0.9])
@pytest.mark.parametrize("noise_hu", [12.0, 40.0])
def test_noise_and_its_grain_are_those_of_the_series(noise_hu: float, grain_px: float) -> None:
    seen = insert.look(scanned(0.6, noise_hu, grain_px))
    assert seen.noise_hu == pytest.approx(noise_hu, rel=0.15)
    assert seen.grain_mm == pytest.approx(grain_px * slices.PIXEL_MM, rel=0.2)


@pytest.mark.parametrize("spread_mm", [0.6, 0.9, 1.2])
def test_the_point_spread_is_that_of_the_series(spread_mm: float) -> None:
    seen = insert.look(scanned(spread_mm, 12.0, 0.6))
    assert seen.spread_mm == pytest.approx(spread_mm, abs=0.2)


def test_an_implant_has_the_noise_of_its_series() -> None:
    series = scanned(0.6, 30.0, 0.6)
    after, truth = insert.implants(series, SHAPES, [Wanted(22.0, (LEFT,))], 8)
    assert truth
    inside = hu(after)[9:13, 116:124, 171:179]
    assert inside.mean() > -100
    assert inside.std() == pytest.approx(30.0, rel=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_inserted(kind: str) -> None:
    after, truth = insert.implants(chest(10.0), SHAPES, [Wanted(12.0, (LEFT, RIGHT), kind)], 7)
    assert [one.kind for one in truth] == [kind]
    assert (hu(after) > hu(chest(10.0))).any()


def test_the_device_needs_neither_scipy_nor_torch_for_it() -> None:
    code = (
        "import sys, appliance.quality.insert as insert;"
        "print(sorted({'scipy', 'skimage', 'torch'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
