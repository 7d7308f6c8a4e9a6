"""Noise: its size in soft tissue and in air, its texture, and from where on it is a flag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.quality import noise, slices
from appliance.records import Sample
from rigs.slices import AIR_HU, body, plane, samples
from rigs.slices import noise as white
from rigs.spectrum import Spectrum

F64 = NDArray[np.float64]


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


@pytest.mark.parametrize("pixels", [16, 81])
def test_air_is_the_median_and_the_sd_of_the_upper_half_about_it(pixels: int) -> None:
    """NaN where over a third has the least value, and where nothing lies above the median."""
    blocks = np.random.default_rng(pixels).normal(-1000, 12, (5, pixels)).astype(np.float32)
    blocks[3, : pixels * 2 // 5] = -1080
    blocks[4, pixels // 2 - 1 :] = blocks[4].max()
    middle, sd = noise.of_air(blocks)
    assert middle == pytest.approx(np.median(blocks, axis=1))
    for block, m, found in zip(blocks[:3], middle, sd, strict=False):
        above = block[block > m] - m
        assert found == pytest.approx(np.sqrt((above**2).mean()), rel=1e-5)
    assert np.isnan(sd[3:]).all()
    assert [len(each) for each in noise.of_air(blocks[:0])] == [0, 0]


def textured(made: Spectrum, sd: float = 20.0, *, seed: int = 0) -> list[Sample]:
    """Slices of muscle with noise of this spectrum."""
    images = [50 + made.noise(sd, seed + k) for k in range(4)]
    return [slices.sample(plane(hu, k, pixel_mm=made.pixel_mm)) for k, hu in enumerate(images)]


@pytest.mark.parametrize("pixel_mm", [0.5, 0.7, 0.98])
@pytest.mark.parametrize("corner_per_mm", [0.3, 0.45, 0.6])
def test_the_mean_frequency_of_noise_of_a_known_spectrum_is_right_within_a_twentieth(
    pixel_mm: float, corner_per_mm: float
) -> None:
    made = Spectrum(pixel_mm, corner_per_mm)
    found = noise.texture(textured(made))
    assert found == pytest.approx(made.mean_per_mm(noise.LOW_PER_MM), rel=0.05)


def test_half_the_dose_keeps_the_texture_and_a_sharper_kernel_or_white_noise_raises_it() -> None:
    """Beside anatomy, which is there in each of them."""
    made = Spectrum(0.7, 0.35)
    y, x = np.indices((made.side, made.side)) * made.pixel_mm
    organs = 15 * np.sin(2 * np.pi * x / 60) * np.sin(2 * np.pi * y / 70)
    usual = [50 + organs + made.noise(20, k) for k in range(4)]
    halved = [hu + made.noise(20, 9 + k) for k, hu in enumerate(usual)]
    spoilt = [hu + white(20, 9 + k, made.side) for k, hu in enumerate(usual)]
    soft = [cv2.GaussianBlur(hu, (0, 0), 1.0) for hu in usual]
    sharper = [2 * hu - low for hu, low in zip(usual, soft, strict=True)]

    def both(images: Sequence[F64]) -> tuple[float, float]:
        found = [slices.sample(plane(hu, k, pixel_mm=0.7)) for k, hu in enumerate(images)]
        size, texture = noise.in_tissue(found), noise.texture(found)
        assert size is not None
        assert texture is not None
        return size, texture

    size, texture = both(usual)
    more, same = both(halved)
    assert more == pytest.approx(size * 2**0.5, rel=0.03)
    assert same == pytest.approx(texture, rel=0.03)
    assert both(spoilt)[1] > 1.1 * texture
    assert both(sharper)[0] > 1.3 * size
    assert both(sharper)[1] > 1.05 * texture
    assert both(soft)[1] < 0.85 * texture


def test_a_texture_needs_enough_blocks_and_some_noise() -> None:
    few = textured(Spectrum(0.7, 0.4))[:1]
    assert noise.texture([few[0], few[0]]) is not None
    assert noise.texture([replace(few[0], power=few[0].power[:99])]) is None
    still = replace(few[0], power=np.zeros((200, 3), np.float32))
    assert noise.texture([still]) is None
    assert noise.texture([]) is None


def test_power_is_that_of_the_fourier_transform() -> None:
    rng = np.random.default_rng(2)
    for side in (8, 13, 24):
        block = rng.normal(40, 10, (1, side, side)).astype(np.float32)
        y, x = np.indices((side, side))
        tilted = block + (3 * x - 2 * y).astype(np.float32)
        window = np.hanning(side + 2)[1:-1]
        basis = np.stack([np.ones(y.size), y.ravel(), x.ravel()], axis=1)
        line, *_ = np.linalg.lstsq(basis, block[0].ravel().astype(np.float64), rcond=None)
        even = block[0] - (basis @ line).reshape(side, side)
        power = np.abs(np.fft.fft2(even * np.outer(window, window))) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side, 0.7), np.fft.fftfreq(side, 0.7)))
        low = frequency < noise.LOW_PER_MM
        truth = [power[low].sum(), power[~low].sum(), (power * frequency)[~low].sum()]
        for one in (block, tilted):
            assert noise.power(one, (0.7, 0.7))[0] == pytest.approx(truth, rel=1e-3)
    assert noise.power(np.zeros((0, 8, 8), np.float32), (0.7, 0.7)).shape == (0, 3)


def test_sharp_images_may_be_noisier_and_unknown_sharpness_counts_as_sharp() -> None:
    limits = [noise.most_hu(edge) for edge in (None, 900.0, 580.0, 530.0, 480.0, 100.0)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] == noise.SHARP_MOST_HU
    assert limits[-1] == noise.SOFT_MOST_HU


def test_too_little_soft_tissue_is_no_noise_at_all() -> None:
    small = [hu[60:160, 60:160] for hu in series(15)]
    assert noise.in_tissue(samples(small[:2])) is None
    assert noise.in_tissue(samples(small * 3)) is not None
    assert noise.in_tissue([]) is None
    assert noise.in_air([]) is None
