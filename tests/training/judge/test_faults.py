"""Painted faults do what they say, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.records import Geometry, Header, Image
from rigs.slices import AIR_HU, SIDE, body, lungs
from training.judge import faults

STEP_MM, PIXEL_MM = 2.0, 1.0


def image(k: int, hu: np.ndarray) -> Image:
    geometry = Geometry(
        (-100.0, -100.0, k * STEP_MM), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (PIXEL_MM, PIXEL_MM)
    )
    header = Header("1", f"1.2.{k}", "1.3", "1.4")
    return Image(header, 0, geometry, np.rint(hu).astype(np.int16), padding=False, digest="")


@pytest.fixture
def images() -> list[Image]:
    made = [np.maximum(body(sd=15, seed=k), faults.LOWEST_HU) for k in range(8)]
    for hu in made:
        hu[:10, :10] = -2048
    return [image(k, hu) for k, hu in enumerate(made)]


def test_what_came_in_is_not_changed_and_fill_stays_fill(images: list[Image]) -> None:
    before = [one.hu.copy() for one in images]
    for made in (
        faults.offset(images, 60),
        faults.moved(images, 2, 3, x_mm=4),
        faults.lifted(images, 2, 5, 10),
        faults.noisier(images, 15, 2),
        faults.with_contrast(images, lungs([body()] * 8), 150),
    ):
        assert all(np.array_equal(a, b.hu) for a, b in zip(before, images, strict=True))
        assert all((one.hu[:10, :10] == -2048).all() for one in made)


def test_ends_are_cut_by_height(images: list[Image]) -> None:
    kept = faults.without_ends(images, 3.0, 8.0)
    assert [one.geometry.position_lps_mm[2] for one in kept] == [4.0, 6.0, 8.0]


def test_a_cropped_image_shows_what_it_showed_at_the_same_place(images: list[Image]) -> None:
    kept = faults.cropped(images, (-50.0, 30.0))
    assert kept[0].hu.shape == (SIDE, 80)
    assert kept[0].geometry.position_lps_mm[0] == -50.0
    assert np.array_equal(kept[0].hu, images[0].hu[:, 50:130])


def test_only_the_slices_that_moved_lie_elsewhere(images: list[Image]) -> None:
    made = faults.moved(images, 2, 4, x_mm=4.0, y_mm=-3.0)
    assert np.array_equal(made[2].hu[20:200, 20:200], images[2].hu[23:203, 16:196])
    assert made[1] is images[1]
    assert made[4] is images[4]


def test_breath_lifts_the_front_and_leaves_the_back(images: list[Image]) -> None:
    (made,) = faults.lifted(images[2:3], 0, 1, 10.0)
    column = SIDE // 2
    front, back = (np.flatnonzero(one.hu[:, column] > -300) for one in (images[2], made))
    assert front[0] - back[0] == pytest.approx(10, abs=1)
    assert front[-1] == pytest.approx(back[-1], abs=1)


def test_an_offset_is_one_and_hu_stay_in_range(images: list[Image]) -> None:
    (made,) = faults.offset(images[:1], -60)
    assert made.hu[images[0].hu > -1100].min() == faults.LOWEST_HU
    inside = images[0].hu > -900
    assert (made.hu[inside] == images[0].hu[inside] - 60).all()


@pytest.mark.parametrize("times", [2.0, 3.0])
def test_noise_grows_so_many_times_and_keeps_its_spectrum(
    images: list[Image], times: float
) -> None:
    made = faults.noisier(images, 15, times)
    muscle = slice(100, 140), slice(105, 135)
    once, more = (np.stack([one.hu[muscle] for one in s]).std() for s in (images, made))
    assert more / once == pytest.approx(times, rel=0.1)
    noise = np.stack([one.hu[muscle] - 50.0 for one in made])
    beside = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / (noise**2).mean()
    assert abs(beside) < 0.1, "the noise was white and is so still"


def test_contrast_medium_goes_between_the_lungs_alone(images: list[Image]) -> None:
    made = faults.with_contrast(images, lungs([body()] * 8), 150)
    change = made[3].hu.astype(int) - images[3].hu
    assert change[110:130, 110:130].mean() == pytest.approx(150, abs=10)
    assert not change[:, :30].any()
    assert not change[:, -30:].any()
    assert not change[images[3].hu < AIR_HU / 2].any()
