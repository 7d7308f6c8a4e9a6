"""The water phantom: what it is asked to be, its pixels are."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from appliance.phantom import water
from appliance.phantom.water import SHARP, SOFT, Water
from rigs import phantoms


def test_the_response_is_the_one_it_is_given() -> None:
    assert water.mtf(SOFT, 0.0) == pytest.approx(1)
    half = np.sqrt(2 * np.log(2)) / (2 * np.pi * 0.5)
    assert water.frequency(SOFT, 0.5) == pytest.approx(half, abs=1e-6)
    assert water.mtf(SHARP, water.frequency(SHARP, 0.1)) == pytest.approx(0.1)


def test_the_same_arguments_give_the_same_bytes() -> None:
    one, two = (
        hashlib.sha256(water.volume(Water(), slices=2, rows=64, spacing_mm=(5, 4, 4)).hu.tobytes())
        for _ in range(2)
    )
    assert one.digest() == two.digest()
    other = water.volume(Water(), slices=2, rows=64, spacing_mm=(5, 4, 4), seed=2)
    assert hashlib.sha256(other.hu.tobytes()).digest() != one.digest()


def test_water_noise_and_air_are_as_asked() -> None:
    whole = water.volume(Water(noise_hu=8), slices=1, rows=256, spacing_mm=(5, 0.98, 0.98))
    middle = whole.hu[0, 100:156, 100:156]
    assert middle.mean() == pytest.approx(0, abs=1)
    assert middle.std() == pytest.approx(8, rel=0.1)
    assert np.median(whole.hu[0, :10]) == pytest.approx(-1000, abs=1)


@pytest.mark.parametrize(
    ("fault", "at", "least", "most"),
    [
        (Water(noise_hu=0.1, offset_hu=20), (128, 128), 19, 21),
        (Water(noise_hu=0.1, scale=1.1), (128, 128), 101, 104),
        (Water(noise_hu=0.1, cupping_hu=40), (128, 128 + 92), 28, 40),
        (Water(noise_hu=0.1, bubble_mm=30), (128 - 80, 128), -1024, -900),
        (Water(noise_hu=0.1, centre_mm=(15, 0)), (128, 128 - 92), -1024, -900),
    ],
)
def test_each_fault_is_in_the_pixels(
    fault: Water, at: tuple[int, int], least: float, most: float
) -> None:
    hu = water.volume(fault, slices=1, rows=256, spacing_mm=(5, 0.98, 0.98)).hu[0]
    assert least <= hu[at] <= most
    sound = water.volume(Water(noise_hu=0.1), slices=1, rows=256, spacing_mm=(5, 0.98, 0.98)).hu[0]
    assert not least <= sound[at] <= most


def test_its_images_say_that_no_patient_is_behind_them() -> None:
    (image, *_) = phantoms.images(slices=1)
    assert image.QualityControlSubject == "YES"
    assert (image.PatientID, image.BodyPartExamined) == ("PHANTOM-WATER", "HEAD")
