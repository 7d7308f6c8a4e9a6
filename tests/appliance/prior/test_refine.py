"""Keypoints found again, and the field that passes through them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.prior import field as fields
from appliance.prior import keypoints, refine, warp
from appliance.prior.align import Alignment
from appliance.prior.entry import Image
from appliance.prior.field import Field
from rigs import breathing

MOVED_MM = np.array([4.0, -2.0, 6.0])
"""Whole voxels along x, y, z."""


def unmoved(image: Image) -> Field:
    grid = fields.nodes(image)
    still = Alignment(np.ones(3), np.zeros(3))
    return Field(still, np.zeros((3, *grid.shape), np.float32), grid)


def shifted(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points + MOVED_MM


def matches(then: Image, now: Image, search: int = 5) -> refine.Matches:
    found = keypoints.found(now)
    return refine.matched(refine.pictures(then, now), found, unmoved(now), search)


def test_correlations_are_those_of_the_definition() -> None:
    random = np.random.default_rng(0)
    blocks = random.normal(0, 30, (3, 5, 5, 5)).astype(np.float32)
    regions = random.normal(90, 30, (3, 11, 11, 11)).astype(np.float32)
    regions[1, 4:9, 1:6, 6:11] = 2 * blocks[1] + 50
    found = refine.correlations(blocks, regions, 3)
    for n, dz, dy, dx in ((0, 0, 0, 0), (1, 4, 1, 6), (2, 6, 3, 2), (0, 3, 6, 5)):
        window = regions[n, dz : dz + 5, dy : dy + 5, dx : dx + 5].ravel()
        wanted = np.corrcoef(blocks[n].ravel(), window)[0, 1]
        assert found[n, dz, dy, dx] == pytest.approx(wanted, abs=0.01)
    assert np.unravel_index(found[1].argmax(), found[1].shape) == (4, 1, 6)


def test_an_even_block_is_like_nothing() -> None:
    even = np.full((1, 5, 5, 5), 40, np.float32)
    assert np.abs(refine.correlations(even, np.full((1, 9, 9, 9), 7, np.float32), 2)).max() < 0.01


def test_the_top_of_a_parabola_is_met_between_voxels() -> None:
    z, y, x = np.meshgrid(*(np.arange(5.0),) * 3, indexing="ij")
    top = np.array([2.3, 1.8, 2.0])
    scores = -((z - top[0]) ** 2) - (y - top[1]) ** 2 - (x - top[2]) ** 2
    flat = scores.reshape(1, -1).astype(np.float32)
    found = refine.tops(flat, flat.argmax(1), 5)
    assert found[0].tolist() == pytest.approx([0.0, -0.2, 0.3], abs=1e-3)


def test_a_shift_is_found_at_every_keypoint_of_the_same_person() -> None:
    found = matches(breathing.chest(), breathing.chest(shifted, seed=6))
    assert found.agreed.mean() > 0.95
    off = found.offset_mm[found.used] - MOVED_MM
    assert np.median(np.abs(off)) < 0.3


def test_another_persons_keypoints_are_found_nowhere_together() -> None:
    found = matches(breathing.chest(), breathing.chest(shifted, vessels=2, seed=6))
    assert found.agreed.mean() < 0.15


def test_one_that_is_off_its_neighbours_is_not_used() -> None:
    then, now = breathing.chest(), breathing.chest(shifted, seed=6)
    places = keypoints.found(now)
    z, y, x = places[5]
    values = now.values.copy()
    # what lies at this keypoint is replaced by what lies 8 mm beside the place that it came from
    part = tuple(slice(at - 5, at + 6) for at in (z, y, x))
    source = tuple(slice(at - 5, at + 6) for at in (z + 3, y - 1, x - 2))
    values[part] = then.values[source]
    pictures = refine.pictures(then, replace(now, values=values))
    found = refine.matched(pictures, places, unmoved(now), 5)
    assert found.alike[5] > refine.ALIKE
    assert not found.agreed[5]


def test_the_field_passes_near_what_was_found_and_goes_on_smoothly() -> None:
    then, now = breathing.chest(), breathing.chest(shifted, seed=6)
    field = refine.added(unmoved(now), matches(then, now), 10.0)
    points = breathing.places(now)
    off = np.linalg.norm(field.to_prior(points) - shifted(points), axis=1)
    assert off.mean() < 0.3
    assert not field.folded().any()


def test_what_is_added_is_never_more_than_what_could_be_found() -> None:
    then, now = breathing.chest(), breathing.chest(shifted, seed=6)
    field = refine.added(unmoved(now), matches(then, now), 1.0)
    assert np.abs(field.values).max() <= 1.0


def test_few_matches_change_nothing() -> None:
    now = breathing.chest()
    found = matches(now, now)
    used = np.zeros_like(found.used)
    used[: refine.LEAST - 1] = True
    field = unmoved(now)
    assert refine.added(field, replace(found, used=used), 10.0) is field


def test_no_keypoints_are_no_matches() -> None:
    now = breathing.chest()
    none = np.zeros((0, 3), np.int64)
    found = refine.matched(refine.pictures(now, now), none, unmoved(now), 5)
    assert found.points_lps.shape == (0, 3)
    assert not found.agreed.size


@pytest.mark.parametrize("count", [1, refine.LEAST - 1])
def test_a_few_keypoints_alone_agree_with_nobody(count: int) -> None:
    now = breathing.chest()
    few = keypoints.found(now)[:count]
    found = refine.matched(refine.pictures(now, now), few, unmoved(now), 5)
    assert len(found.agreed) == count
    assert not found.agreed.any()


def test_a_region_is_drawn_as_the_field_stretches() -> None:
    image = breathing.chest()
    points = plan.to_lps(image.grid, [[50, 40, 60]])
    drawn = refine.regions(
        refine.pictures(image, image).moving, image, points, 2 * np.eye(3)[None], 2.0, 2
    )
    soft = refine.pictures(image, image).fixed
    assert np.allclose(drawn[0], soft[46:55:2, 36:45:2, 56:65:2], atol=0.5)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_regions_are_the_same_however_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    then = breathing.chest()
    points = breathing.places(then, 90)
    random = np.random.default_rng(4)
    stretch = np.eye(3) + random.normal(0, 0.05, (len(points), 3, 3))
    drawn = []
    for number in (len(points), at_once):
        monkeypatch.setattr(refine, "AT_ONCE", number)
        drawn.append(refine.regions(warp.Volume(then.values), then, points, stretch, 2.0, 6))
    assert drawn[0].std() > 10
    assert np.array_equal(*drawn)
