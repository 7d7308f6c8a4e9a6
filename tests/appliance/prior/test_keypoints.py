"""Keypoints: where they are, how they are spread, and what is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from appliance.prior import keypoints
from appliance.prior.entry import Image
from rigs import breathing


def lung(hu: float = -850.0) -> tuple[np.ndarray, Image]:
    """A block that is lung all through, and its image."""
    values = np.full((60, 60, 60), hu)
    lungs = np.ones(values.shape, np.bool_)
    return values, breathing.image(values, lungs, breathing.grid(values.shape))


def shown(hu: np.ndarray) -> Image:
    return breathing.image(hu, np.ones(hu.shape, np.bool_), breathing.grid(hu.shape))


def test_they_lie_deep_in_the_lungs_and_are_brighter_than_what_is_about_them() -> None:
    image = breathing.chest()
    found = keypoints.found(image)
    assert 100 < len(found) <= keypoints.MOST
    deep = round(keypoints.DEEP_MM / 2)
    values = image.values.astype(float)
    for z, y, x in found:
        for axis in range(3):
            for step in (-deep, deep):
                at = [z, y, x]
                at[axis] += step
                assert image.lungs[tuple(at)]
        part = tuple(slice(at - 5, at + 6) for at in (z, y, x))
        assert values[z, y, x] > values[part][image.lungs[part]].mean()


def test_they_are_spread_over_the_lungs() -> None:
    found = keypoints.found(breathing.chest())
    cells, counts = np.unique(found // round(keypoints.LARGE_MM / 2), axis=0, return_counts=True)
    assert counts.max() <= 2 * keypoints.PER_CELL  # cells of theirs begin at the box of the lungs
    assert len(cells) > 60


def test_a_ball_comes_before_a_tube_along_which_nothing_says_where_one_is() -> None:
    hu, _ = lung()
    z, y, x = np.meshgrid(*(np.arange(60),) * 3, indexing="ij")
    tube = np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / 8)
    ball = np.exp(-((z - 30) ** 2 + (y - 42) ** 2 + (x - 42) ** 2) / 8)
    noise = np.random.default_rng(0).normal(0, 10, hu.shape)
    found = keypoints.found(shown(hu + 600 * np.maximum(tube, ball) + noise))
    assert np.abs(found[0] - [30, 42, 42]).max() <= 1
    assert len(found) > 1


def test_the_same_image_has_the_same_keypoints() -> None:
    image = breathing.chest()
    assert np.array_equal(keypoints.found(image), keypoints.found(replace(image)))


def test_lungs_without_vessels_and_images_without_lungs_have_none() -> None:
    _, even = lung()
    assert keypoints.found(even).shape == (0, 3)
    empty = replace(even, lungs=np.zeros_like(even.lungs))
    assert keypoints.found(empty).shape == (0, 3)


def test_what_the_images_do_not_cover_has_none() -> None:
    image = breathing.chest()
    covered = image.covered.copy()
    covered[:, :, 56:] = False
    found = keypoints.found(replace(image, covered=covered))
    assert len(found) > 50
    assert found[:, 2].max() < 56 - round(keypoints.DEEP_MM / 2)


def test_inside_is_measured_from_every_face_and_the_edge_of_the_grid() -> None:
    kept = keypoints.inner(np.ones((9, 9, 9), np.bool_), 3)
    assert np.argwhere(kept).min() == 3
    assert np.argwhere(kept).max() == 5
