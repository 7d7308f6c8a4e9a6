"""The place of one finding, beside its own body."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.preprocess import plan
from appliance.prior.entry import Image
from appliance.prior.locate import locate
from appliance.prior.register import Registration, register
from rigs import bodies, breathing

F64 = NDArray[np.float64]
RADIUS_MM = 6.0
OFF_MM = np.array([2.0, -2.0, 2.0], np.float32)
"""Along z, y, x: by so much the field is made wrong."""


def then() -> Image:
    return breathing.chest()


def now() -> Image:
    return breathing.chest(breathing.breath, seed=6)


@cache
def right() -> Registration:
    return register(then(), now(), None)


def wrong() -> Registration:
    field = right().field
    return replace(right(), field=replace(field, values=field.values + OFF_MM[:, None, None, None]))


def centers() -> F64:
    """Places deep in the lungs of today."""
    points = breathing.places(now(), 400)
    home = breathing.breath(points)
    deep = (np.abs(home[:, 0]) > 30) & (np.abs(home[:, 2]) < 50)
    return points[deep][:25]


def with_body(image: Image, center: F64, radius: float) -> Image:
    """A bright ball painted into it."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in image.values.shape), indexing="ij"), -1)
    away = np.linalg.norm(plan.to_lps(image.grid, index.reshape(-1, 3)) - center, axis=1)
    values = image.values.copy()
    values[(away <= radius).reshape(values.shape)] = 190
    return replace(image, values=values)


def off(found: F64, center: F64) -> float:
    return float(np.linalg.norm(found - breathing.breath(center[None])[0]))


def test_a_field_that_is_off_is_put_right_around_a_finding() -> None:
    before = [off(wrong().to_prior(c[None])[0], c) for c in centers()]
    after = [off(locate(wrong(), then(), now(), c, RADIUS_MM), c) for c in centers()]
    assert np.mean(before) > 3
    assert np.mean(after) < 1.2


def test_a_field_that_is_right_stays_so() -> None:
    before = [off(right().to_prior(c[None])[0], c) for c in centers()]
    after = [off(locate(right(), then(), now(), c, RADIUS_MM), c) for c in centers()]
    assert np.mean(after) < np.mean(before) + 0.2


def test_what_the_body_looks_like_takes_no_part() -> None:
    for center in centers()[:8]:
        plain = locate(wrong(), then(), now(), center, RADIUS_MM)
        grown = locate(wrong(), then(), with_body(now(), center, RADIUS_MM), center, RADIUS_MM)
        assert np.linalg.norm(grown - plain) < 0.8


def test_a_mask_on_its_own_grid_says_as_well_as_a_radius_what_the_body_is() -> None:
    for center in centers()[:8]:
        mask = bodies.sphere(center, 2 * RADIUS_MM)
        image = with_body(now(), center, RADIUS_MM)
        assert off(locate(wrong(), then(), image, center, mask), center) < 2.5


def test_without_lung_about_it_the_place_of_the_field_holds() -> None:
    nothing = replace(now(), lungs=np.zeros_like(now().lungs))
    center = centers()[0]
    found = locate(wrong(), then(), nothing, center, RADIUS_MM)
    assert np.array_equal(found, wrong().to_prior(center[None])[0])


def test_where_nothing_is_alike_the_place_of_the_field_holds() -> None:
    other = breathing.chest(vessels=3)
    held = 0
    for center in centers():
        found = locate(right(), other, now(), center, RADIUS_MM)
        held += np.array_equal(found, right().to_prior(center[None])[0])
    assert held > 0.8 * len(centers())


def test_about_a_body_larger_than_what_is_compared_the_place_of_the_field_holds() -> None:
    center = centers()[0]
    found = locate(wrong(), then(), now(), center, 75.0)
    assert np.array_equal(found, wrong().to_prior(center[None])[0])


@pytest.mark.parametrize("radius", [-1.0, np.nan, np.inf])
def test_a_radius_that_is_no_length_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="radius"):
        locate(right(), then(), now(), centers()[0], radius)
