"""One exam over another, whole: same person, strangers, mirrored, cut, sick, empty."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.prior import field as fields
from appliance.prior import identity
from appliance.prior.displace import demons
from appliance.prior.entry import Image
from appliance.prior.register import FAR_MM, Registration, register
from rigs import breathing

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def then() -> Image:
    return breathing.chest()


def now() -> Image:
    return breathing.chest(breathing.breath, seed=6)


@cache
def usual() -> Registration:
    """The same person in another breath."""
    return register(then(), now(), None)


def errors(found: Registration, image: Image) -> F64:
    points = breathing.places(image)
    points = points[~found.weak_at(points)]
    assert len(points) > 50
    return np.asarray(np.linalg.norm(found.to_prior(points) - breathing.breath(points), axis=1))


def verdict(found: Registration) -> str:
    return identity.judged(found.share, found.keypoints, found.mirrored_share)


def thick(image: Image) -> Image:
    """As slices of 6 mm show it, on the grid that is kept."""
    mean = np.mean([np.roll(image.values.astype(float), k, axis=0) for k in (-1, 0, 1)], axis=0)
    return replace(image, values=np.rint(mean).astype(np.uint8))


def test_the_same_person_in_another_breath_is_laid_over_to_the_millimetre() -> None:
    found = usual()
    off = errors(found, now())
    assert off.mean() < 1.0
    assert np.percentile(off, 95) < 3.0
    assert found.method == "demons"
    assert not found.weak
    assert found.folds == 0
    assert found.residual_mm is not None
    assert found.residual_mm < 0.5
    assert verdict(found) == "same"
    assert found.mirrored_share is None  # nobody asks for it
    assert found.keypoints > 200


def test_there_and_back_is_where_one_was() -> None:
    points = breathing.places(now())
    assert np.abs(usual().to_current(usual().to_prior(points)) - points).max() < 0.05


def test_equal_images_are_one_persons_and_lie_where_they_lie() -> None:
    found = register(then(), then(), None)
    assert found.share > 0.99
    points = breathing.places(then())
    assert np.abs(found.to_prior(points) - points).max() < 0.6


def test_another_person_in_the_same_body_is_told_apart() -> None:
    found = register(then(), breathing.chest(breathing.breath, vessels=2, seed=6), None)
    assert found.share < 0.15
    assert found.mirrored_share is not None
    assert found.mirrored_share < 0.15
    assert verdict(found) == "images_disagree"


def test_exchanged_sides_are_noticed() -> None:
    assert verdict(register(identity.mirrored(then()), now(), None)) == "laterality"


def test_thick_and_noisy_slices_are_laid_over_thin_ones() -> None:
    noisy = breathing.chest(breathing.breath, noise_hu=60.0, seed=8)
    found = register(thick(then()), noisy, None)
    off = errors(found, noisy)
    assert verdict(found) == "same"
    assert off.mean() < 2.5
    assert np.percentile(off, 95) < 6


@pytest.mark.parametrize(("low", "high"), [(40, 112), (0, 70), (25, 90)])
def test_lungs_that_are_cut_are_laid_over_as_far_as_they_go(low: int, high: int) -> None:
    cut = breathing.slices(now(), low, high)
    found = register(then(), cut, None)
    off = errors(found, cut)
    assert verdict(found) == "same"
    assert off.mean() < 1.5
    assert np.percentile(off, 95) < 4


def test_exams_without_common_cover_are_neither_one_persons_nor_two_peoples() -> None:
    found = register(breathing.slices(then(), 0, 50), breathing.slices(now(), 62, 112), None)
    assert found.weak
    assert verdict(found) == "identity_unsure"


@pytest.mark.parametrize("which", ["prior", "current"])
def test_a_lung_full_of_fluid_takes_away_keypoints_and_no_share(which: str) -> None:
    prior = breathing.one_lung(then()) if which == "prior" else then()
    current = breathing.one_lung(now()) if which == "current" else now()
    found = register(prior, current, None)
    assert verdict(found) == "same"
    assert found.keypoints < 0.7 * usual().keypoints
    points = breathing.places(now())
    points = points[breathing.in_lung(breathing.breath(points), 1) & ~found.weak_at(points)]
    off = np.linalg.norm(found.to_prior(points) - breathing.breath(points), axis=1)
    assert off.mean() < 1.5


@pytest.mark.parametrize("empty", ["prior", "current", "both"])
def test_without_lungs_it_is_weak_and_knows_nobody(empty: str) -> None:
    prior, current = then(), now()
    if empty != "current":
        prior = replace(prior, lungs=np.zeros_like(prior.lungs))
    if empty != "prior":
        current = replace(current, lungs=np.zeros_like(current.lungs))
    found = register(prior, current, None)
    assert found.weak
    assert found.keypoints == 0
    assert found.share == 0
    assert verdict(found) == "identity_unsure"
    assert np.isfinite(found.to_prior([[0.0, 0, 0]])).all()
    assert found.weak_at([[0.0, 0, 0]]).all()


def test_images_of_one_grey_and_of_one_slice_are_weak_and_no_error() -> None:
    grey = replace(now(), values=np.full_like(now().values, 30))
    one = breathing.slices(now(), 55, 56)
    for prior, current in ((grey, grey), (then(), grey), (then(), one), (one, now())):
        found = register(prior, current, None)
        assert found.weak
        assert verdict(found) == "identity_unsure"


def test_a_given_field_takes_the_place_of_demons() -> None:
    asked: list[tuple[int, ...]] = []

    def displace(prior: F32, current: F32) -> F32:
        asked.append(prior.shape)
        return demons(prior, current)

    found = register(then(), now(), displace)
    assert found.method == "network"
    assert asked == [fields.nodes(now()).shape]
    points = breathing.places(now())
    assert np.array_equal(found.to_prior(points), usual().to_prior(points))


def test_a_field_of_another_shape_or_of_no_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        register(then(), now(), lambda prior, current: prior)
    with pytest.raises(ValueError, match="no number"):
        register(then(), now(), lambda prior, current: np.stack([prior * np.nan] * 3))


def test_a_place_far_from_all_that_was_found_is_weak() -> None:
    outside = np.array([[0.0, 0, 92 + FAR_MM + 40]])
    assert usual().weak_at(outside).all()
    assert not usual().weak_at(breathing.places(now())).any()


def test_a_place_near_a_fold_is_weak() -> None:
    found = usual()
    values = found.field.values.copy()
    values[0, 14:] -= 20
    folding = replace(found, field=replace(found.field, values=values))
    points = breathing.places(now())
    weak = folding.weak_at(points)
    height = (points[:, 2] - found.field.grid.to_lps[2, 3]) / 8
    assert weak[np.abs(height - 13.5) < 1].all()
    assert not weak[np.abs(height - 13.5) > 3].any()
