"""How steep edges are: on a body whose edges are known, in the plane they lie in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.quality import sharpness, slices
from appliance.records import Sample
from rigs.slices import AIR_HU, LUNG_HU, MUSCLE_HU, body, noise, plane

F64 = NDArray[np.float64]


def chest(sigma_mm: float, pixel_mm: float = 0.7, sd: float = 0.0, seed: int = 1) -> Sample:
    """An oval body with two lungs, as a system of this point spread (SD, mm) shows it: made on
    pixels three times as fine, blurred, and averaged."""
    side = round(320 / pixel_mm)
    fine = pixel_mm / 3
    line = ((np.arange(3 * side) - (3 * side - 1) / 2) * fine).astype(np.float32)
    y, x = line[:, None], line[None, :]
    hu = np.full((3 * side, 3 * side), AIR_HU, np.float32)
    hu[(x / 140) ** 2 + (y / 105) ** 2 < 1] = MUSCLE_HU
    for aside in (-1, 1):
        hu[((x - 60 * aside) / 45) ** 2 + (y / 70) ** 2 < 1] = LUNG_HU
    hu = cv2.GaussianBlur(hu, (0, 0), sigma_mm / fine)
    shown = cv2.resize(hu, (side, side), interpolation=cv2.INTER_AREA).astype(np.float64)
    return slices.sample(plane(shown + noise(sd, seed, side), pixel_mm=pixel_mm))


def steepest(step_hu: float, sigma_mm: float, pixel_mm: float) -> float:
    """Gradient of a blurred step between two pixels, the edge in the middle of them (HU/mm); the
    pixel's own width blurs by its SD, pixel / sqrt(12), and the difference by as much again."""
    width = float(np.sqrt(sigma_mm**2 + 2 * pixel_mm**2 / 12))
    return step_hu / (float(np.sqrt(2 * np.pi)) * width)


@pytest.mark.parametrize("sigma_mm", [0.6, 1.2])
@pytest.mark.parametrize("pixel_mm", [0.5, 0.7, 0.98])
def test_a_known_edge_has_its_steepness(sigma_mm: float, pixel_mm: float) -> None:
    found = chest(sigma_mm, pixel_mm)
    skin = steepest(MUSCLE_HU - AIR_HU, sigma_mm, pixel_mm)
    lung = steepest(MUSCLE_HU - LUNG_HU, sigma_mm, pixel_mm)
    assert found.skin == pytest.approx(skin, rel=0.12)
    assert found.lung_edge == pytest.approx(lung, rel=0.12)


def test_blur_lowers_both_and_noise_hardly_moves_them() -> None:
    sharp, noisy, soft = chest(0.8), chest(0.8, sd=25.0), chest(1.4)
    for name in ("skin", "lung_edge"):
        one, other, low = (getattr(s, name) for s in (sharp, noisy, soft))
        assert other == pytest.approx(one, rel=0.05), name
        assert low < 0.75 * one, name


def test_what_the_field_of_view_cuts_is_no_skin() -> None:
    """Neither a square field of view that ends in the body nor a round one with fill around it."""
    hu = body(sd=0)
    cut = hu[50:190]
    assert slices.sample(plane(cut)).skin is None
    y, x = np.indices(hu.shape) - (len(hu) - 1) / 2
    hu[np.hypot(x, y) > 60] = -2048
    assert slices.sample(plane(hu)).skin is None


def test_the_table_behind_the_body_is_no_skin() -> None:
    hu = body(sd=0)
    usual = slices.sample(plane(hu)).skin
    table = hu.copy()
    table[194:198, 20:220] = 3000
    assert slices.sample(plane(table)).skin == usual


def test_a_body_without_lungs_has_skin_alone() -> None:
    solid = np.where(body(sd=0) > -950, MUSCLE_HU, AIR_HU)
    found = slices.sample(plane(solid))
    assert found.skin is not None
    assert found.lung_edge is None
    none = slices.sample(plane(np.full((240, 240), AIR_HU) + noise(20, 1)))
    assert (none.skin, none.lung_edge) == (None, None)


def test_a_series_says_the_median_of_its_slices_and_nothing_of_too_few() -> None:
    many = [chest(sigma) for sigma in (0.7, 0.9, 1.1)]
    assert sharpness.skin(many) == many[1].skin
    assert sharpness.lung_edge(many) == many[1].lung_edge
    assert sharpness.skin(many[:2]) is None
    assert sharpness.lung_edge([]) is None


def one_by_one(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float], level: float, where: NDArray[np.bool_]
) -> list[float]:
    """Steepness at all edges of a level, pixel by pixel, as the module says it: where a row or a
    column is looked at, in cells of 6 x 5 pixels."""
    found = []
    for image, (across, along), cells, (tall, wide) in (
        (hu.astype(np.float64), spacing_mm, where, (6, 5)),
        (hu.T.astype(np.float64), spacing_mm[::-1], where.T, (5, 6)),
    ):
        step = max(1, round(sharpness.LINE_MM / across))
        for y in range(step, len(image) - 1, step):
            for x in range(image.shape[1] - 1):
                one, other = image[y, x], image[y, x + 1]
                if y // tall >= len(cells) or x // wide >= cells.shape[1]:
                    continue
                if not cells[y // tall, x // wide] or min(one, other) <= sharpness.LOWEST_HU:
                    continue
                if (one < level) != (other < level):
                    beside = image[y + 1, x : x + 2].sum() - image[y - 1, x : x + 2].sum()
                    found.append(float(np.hypot((other - one) / along, beside / (4 * across))))
    return found


@pytest.mark.parametrize("spacing_mm", [(1.9, 1.3), (5.8, 6.5)])
@pytest.mark.parametrize("shape", [(64, 87), (60, 85), (90, 31)])
def test_it_is_what_each_edge_says_by_itself(
    shape: tuple[int, int], spacing_mm: tuple[float, float]
) -> None:
    """Of an image that ends with its cells and of one that does not, with fill in it, of oblong
    pixels, of whole numbers and of floats, and where the rows do not adjoin in memory."""
    rng = np.random.default_rng(shape[0])
    hu = rng.integers(-1200, 300, (shape[0], 2 * shape[1])).astype(np.int16)[::-1, ::2]
    cells = shape[0] // 6, shape[1] // 5
    front, deep = rng.random(cells) < 0.4, rng.random(cells) < 0.6
    skin = one_by_one(hu, spacing_mm, sharpness.SKIN_HU, front)
    lung = one_by_one(hu, spacing_mm, sharpness.LUNG_HU, deep)
    for some in (hu, hu.astype(np.float32)):
        found = sharpness.of_slice(some, spacing_mm, (6, 5), front, deep)
        assert found.skin == pytest.approx(np.median(skin), rel=1e-5)
        assert found.lung == pytest.approx(np.median(lung), rel=1e-5)
    few = sharpness.of_slice(hu, spacing_mm, (6, 5), front & False, deep)
    assert few.skin is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_an_image_without_lines_says_nothing(shape: tuple[int, int]) -> None:
    every = np.ones(shape, np.bool_)
    found = sharpness.of_slice(np.zeros(shape, np.int16), (1.0, 1.0), (1, 1), every, every)
    assert (found.skin, found.lung) == (None, None)
