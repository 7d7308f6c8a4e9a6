from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from appliance.records import Mask
from appliance.results import resample
from appliance.results.resample import Patch, Slice
from rigs import bodies


def pixel_mm3(one: Slice, distance_mm: float) -> float:
    return one.geometry.spacing_mm[0] * one.geometry.spacing_mm[1] * distance_mm


def volume(patches: tuple[Patch, ...], one: Slice, distance_mm: float) -> float:
    return sum(int(p.pixels.sum()) for p in patches) * pixel_mm3(one, distance_mm)


def own_volume(mask: Mask) -> float:
    return float(mask.voxels.sum() * np.prod(mask.grid.spacing_mm))


def test_the_volume_of_a_sphere_is_kept_for_every_shift() -> None:
    """Median at most 5 %, as asked; that it is far less is held too."""
    dice = np.random.default_rng(15)
    for distance, pixel, diameter in itertools.product((0.5, 1.25, 2.5), (0.5, 0.9), (6, 13)):
        errors, away = [], []
        for _ in range(8):
            shift = dice.uniform(-1, 1, 3) * (pixel, pixel, distance)
            series = bodies.slices(distance_mm=distance, pixel_mm=(pixel, pixel), shift_mm=shift)
            mask = bodies.sphere(dice.uniform(-0.4, 0.4, 3), diameter)
            found = resample.body(mask, series)
            errors.append(abs(volume(found, series[0], distance) / own_volume(mask) - 1))
            away.append(np.linalg.norm(bodies.middle(found, series) - bodies.middle_of(mask)))
        sys.stdout.write(
            f"slices {distance} mm, pixels {pixel} mm, sphere {diameter} mm: volume off by "
            f"{np.median(errors):.1%}, at worst {max(errors):.1%}; centroid {max(away):.2f} mm\n"
        )
        assert np.median(errors) <= 0.01
        assert max(errors) <= 0.03
        assert max(away) <= 0.6


def test_a_body_of_a_few_voxels_is_not_shown_larger_than_it_is() -> None:
    mask = bodies.sphere((0.1, 0.2, 0.3), 3.7)
    series = bodies.slices(distance_mm=1.0, pixel_mm=(0.5, 0.5))
    found = resample.body(mask, series)
    off = abs(volume(found, series[0], 1.0) - own_volume(mask))
    assert off <= pixel_mm3(series[0], 1.0) / 2 + 0.03 * own_volume(mask), "half a pixel, and 3 %"


@pytest.mark.parametrize("name", bodies.POSES)
def test_a_body_without_symmetry_lies_where_it_is_in_every_pose_of_the_slices(name: str) -> None:
    series = bodies.posed(name)
    mask = bodies.lopsided((4.0, -3.0, 2.0))
    found = resample.body(mask, series)
    assert np.linalg.norm(bodies.middle(found, series) - bodies.middle_of(mask)) < 1.0
    far = bodies.furthest(found, series) - bodies.middle(found, series)
    assert far @ (bodies.TIP / np.linalg.norm(bodies.TIP)) > 6.0, "its tip points where it pointed"


def test_slices_in_reversed_order_show_the_same_pixels() -> None:
    mask = bodies.lopsided((1.0, 2.0, 3.0))
    series = bodies.slices(distance_mm=1.25)
    forth, back = resample.body(mask, series), resample.body(mask, series[::-1])
    last = len(series) - 1
    assert {p.slice for p in forth} == {last - p.slice for p in back}
    by_slice = {last - p.slice: p for p in back}
    for patch in forth:
        assert np.array_equal(patch.pixels, by_slice[patch.slice].pixels)


def test_a_body_between_two_slices_is_shown_on_the_nearest_one() -> None:
    series = [one for one in bodies.slices(distance_mm=1.0) if one.geometry.position_lps_mm[2] < 0]
    series += bodies.slices(distance_mm=1.0, shift_mm=(0, 0, 40))  # a hole of some 10 mm
    heights = sorted(one.geometry.position_lps_mm[2] for one in series)
    lower = max(h for h in heights if h < 0)
    upper = min(h for h in heights if h > 0)
    assert upper - lower > 5
    found = resample.body(bodies.sphere((0, 0, lower + 1.5), 1.7), series)
    assert [series[p.slice].geometry.position_lps_mm[2] for p in found] == [lower]
    assert sum(int(p.pixels.sum()) for p in found) >= 1


def test_a_body_of_one_voxel_is_shown_on_slices_of_five_millimetres() -> None:
    mask = bodies.sphere((0, 0, 2.5), 0.8)
    assert mask.voxels.sum() <= 8
    found = resample.body(mask, bodies.slices(distance_mm=5.0, pixel_mm=(0.9, 0.9)))
    assert sum(int(p.pixels.sum()) for p in found) >= 1


def test_lungs_are_shown_where_half_of_a_pixel_is_lung() -> None:
    mask = bodies.sphere((0, 0, 0), 40, voxel_mm=3.0)
    series = bodies.slices(distance_mm=1.25)
    found = resample.organ(mask, series)
    assert volume(found, series[0], 1.25) == pytest.approx(own_volume(mask), rel=0.03)
    assert np.linalg.norm(bodies.middle(found, series) - bodies.middle_of(mask)) < 0.3


def test_what_cannot_be_shown_is_said() -> None:
    series = bodies.slices(distance_mm=1.0)
    with pytest.raises(ValueError, match="lies outside the images"):
        resample.body(bodies.sphere((500, 0, 0), 8), series)
    with pytest.raises(ValueError, match="one slice alone"):
        resample.body(bodies.sphere((0, 0, 0), 8), series[:1])
    with pytest.raises(ValueError, match="not parallel"):
        resample.body(bodies.sphere((0, 0, 0), 8), [series[0], bodies.posed("oblique")[0]])
