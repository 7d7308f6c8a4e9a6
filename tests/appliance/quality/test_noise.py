"""Noise: its size in soft tissue and in air, its texture, and from where on it is a flag."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from appliance.quality import noise
from rigs.slices import AIR_HU, body, samples
from rigs.slices import noise as white


def series(sd: float) -> list[np.ndarray]:
    return [body(sd=sd, seed=k) for k in range(12)]


@pytest.mark.parametrize("times", [2.0, 3.0])
def test_noise_that_is_doubled_or_tripled_is_measured_so(times: float) -> None:
    once, more = (noise.in_tissue(samples(series(sd))) for sd in (15.0, 15.0 * times))
    assert once is not None
    assert more is not None
    assert once == pytest.approx(15, rel=0.1)
    assert more / once == pytest.approx(times, rel=0.05)


def test_what_changes_over_more_than_a_block_is_no_noise() -> None:
    ramp = np.linspace(-40, 40, 240)[None, :]
    even, tilted = (noise.in_tissue(samples([hu + r for hu in series(15)])) for r in (0, ramp))
    assert tilted == pytest.approx(even, rel=0.05)


@pytest.mark.parametrize("cut_hu", [-2000, -1024, -1000.5])
def test_noise_in_air_is_the_same_where_the_scanner_cuts_hu(cut_hu: float) -> None:
    """At -1024 the lower tail is cut, at -1000.5 the lower half."""
    cut = [np.maximum(hu, cut_hu) for hu in series(20)]
    found = noise.in_air(samples(cut))
    if cut_hu > AIR_HU - 1:
        assert found is None, "the least value is the most common: it says nothing"
    else:
        assert found == pytest.approx(20, rel=0.15)


def test_padding_in_the_corners_is_no_air() -> None:
    padded = []
    for hu in series(20):
        hu[:40, :40] = -2048
        hu[:40, 200:] = 0
        padded.append(hu)
    assert noise.in_air(samples(padded)) == pytest.approx(20, rel=0.15)


def test_noise_of_a_thick_slice_is_named_as_of_a_thin_one() -> None:
    assert noise.as_thick(20.0, 2.5) == 20.0
    assert noise.as_thick(10.0, 10.0) == pytest.approx(20.0)


def test_the_texture_of_white_noise_is_none_and_that_of_soft_noise_is_much() -> None:
    soft = []
    for k, hu in enumerate(series(0)):
        soft.append(hu + 5 * cv2.GaussianBlur(white(15, k), (0, 0), 1.2))
    sharp, smooth = (noise.texture(samples(s), 1.0) for s in (series(15), soft))
    assert sharp == pytest.approx(0, abs=0.05)
    assert smooth is not None
    assert smooth > 0.5


def test_a_texture_is_not_read_from_pixels_that_are_too_large() -> None:
    assert noise.texture(samples(series(15)), 1.4) is None
    assert noise.texture([], 0.7) is None


def test_sharp_images_may_be_noisier_and_unknown_texture_counts_as_sharp() -> None:
    limits = [noise.most_hu(texture) for texture in (None, 0.0, 0.1, 0.2, 0.28, 0.6)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] == noise.SHARP_MOST_HU
    assert limits[-1] == noise.SOFT_MOST_HU


def test_too_little_soft_tissue_is_no_noise_at_all() -> None:
    assert noise.in_tissue(samples(series(15)[:1])) is None
    assert noise.in_tissue([]) is None
    assert noise.in_air([]) is None
