"""Whose exams they are: the verdict, and which keypoints count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.comparison import Identity
from appliance.preprocess import plan
from appliance.prior import identity
from rigs import breathing


@pytest.mark.parametrize(
    ("share", "keypoints", "mirrored", "said"),
    [
        (0.40, 50, None, "same"),
        (0.98, 400, 0.05, "same"),
        (0.98, 49, None, "identity_unsure"),
        (0.39, 300, None, "identity_unsure"),
        (0.25, 300, 0.1, "identity_unsure"),
        (0.24, 300, 0.39, "images_disagree"),
        (0.24, 300, None, "images_disagree"),
        (0.05, 300, 0.40, "laterality"),
        (0.39, 300, 0.60, "laterality"),
        (0.05, 10, 0.90, "identity_unsure"),
        (0.0, 0, None, "identity_unsure"),
    ],
)
def test_the_share_says_who_it_is(
    share: float, keypoints: int, mirrored: float | None, said: Identity
) -> None:
    assert identity.judged(share, keypoints, mirrored) == said


def test_lung_with_air_counts_and_filled_or_uncovered_lung_does_not() -> None:
    image = breathing.chest()
    right, left = (plan.to_index(image.grid, [[side * 48.0, 0, 0]])[0] for side in (-1, 1))
    values = image.values.copy()
    values[:, :, :56] = 184  # 10 HU, though the mask still says lung
    covered = image.covered.copy()
    filled = identity.aerated(replace(image, values=values))
    assert not filled[tuple(np.rint(right).astype(int))]
    assert filled[tuple(np.rint(left).astype(int))]
    covered[:, :, 56:] = False
    assert not identity.aerated(replace(image, covered=covered))[:, :, 56:].any()


def test_places_outside_of_the_image_are_in_no_mask() -> None:
    image = breathing.chest()
    everywhere = np.ones_like(image.lungs)
    points = np.array([[0.0, 0, 0], [500, 0, 0], [0, -500, 0], [0, 0, 111.9], [0, 0, 112.1]])
    assert identity.at(everywhere, image, points).tolist() == [True, False, False, True, False]


def test_a_keypoint_counts_only_with_lung_in_both_exams() -> None:
    image, one = breathing.chest(), breathing.one_lung(breathing.chest())
    both = np.array([[-48.0, 0, 0], [48, 0, 0]])
    assert identity.counted(image, image, both, both).tolist() == [True, True]
    assert identity.counted(one, image, both, both).tolist() == [False, True]
    assert identity.counted(image, one, both, both).tolist() == [False, True]


def test_a_mirror_of_a_mirror_is_the_image() -> None:
    image = breathing.chest()
    turned = identity.mirrored(image)
    assert np.array_equal(turned.values[:, :, 0], image.values[:, :, -1])
    assert np.array_equal(identity.mirrored(turned).values, image.values)
