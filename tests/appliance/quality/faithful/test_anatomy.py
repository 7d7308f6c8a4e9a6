"""Masks of body, lungs and soft tissue, and how far two masks lie apart."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.quality.faithful import anatomy
from rigs import slices

PIXEL_MM = (1.0, 1.0)


def test_body_and_lungs_are_those_of_the_drawing() -> None:
    masks = anatomy.masks(slices.body().astype(np.float32), PIXEL_MM)
    area = np.pi * 100 * 75
    assert masks.body.sum() == pytest.approx(area, rel=0.02)
    assert masks.lungs.sum() == pytest.approx(2 * np.pi * 30 * 50, rel=0.03)
    assert not (masks.solid & masks.lungs).any()


def test_vessels_are_lungs_and_a_bubble_of_air_is_none() -> None:
    hu = slices.body(sd=0).astype(np.float32)
    before = anatomy.masks(hu, PIXEL_MM).lungs
    hu[100:140:8, 60:66] = 40  # short vessels across a lung
    hu[60:66, 118:124] = -900
    after = anatomy.masks(hu, PIXEL_MM).lungs
    assert before[112, 62]
    assert after[112, 62]
    assert not after[62, 120]


def test_nothing_dense_is_no_body() -> None:
    masks = anatomy.masks(np.full((40, 40), -1000, np.float32), PIXEL_MM)
    assert not any(mask.any() for mask in (masks.body, masks.lungs, masks.solid))
    assert anatomy.dice([masks.body], [masks.body]) is None
    assert anatomy.hausdorff_mm([masks.body], [masks.body], np.zeros(1), PIXEL_MM) is None


def cube(at: tuple[int, int, int], side: int = 16) -> list[np.ndarray]:
    voxels = np.zeros((40, 60, 60), np.bool_)
    z, y, x = at
    voxels[z : z + side, y : y + side, x : x + side] = True
    return list(voxels)


@pytest.mark.parametrize("step", [0, 1, 3])
def test_dice_is_twice_the_common_part(step: int) -> None:
    found = anatomy.dice(cube((10, 20, 20)), cube((10, 20, 20 + step)))
    assert found == pytest.approx((16 - step) / 16)


@pytest.mark.parametrize(
    ("move", "far_mm"), [((0, 0, 0), 0.0), ((0, 0, 4), 2.0), ((3, 0, 0), 6.0), ((2, 4, 0), 4.0)]
)
def test_distances_are_in_millimetres_in_all_three_directions(
    move: tuple[int, int, int], far_mm: float
) -> None:
    z, y, x = move
    there = cube((10 + z, 20 + y, 20 + x))
    found = anatomy.hausdorff_mm(cube((10, 20, 20)), there, np.arange(40) * 2.0, (0.5, 0.5))
    assert found == pytest.approx(far_mm, abs=0.3)


def test_what_is_far_away_counts_as_the_reach() -> None:
    found = anatomy.hausdorff_mm(cube((0, 0, 0)), cube((24, 40, 40)), np.arange(40) * 1.0, PIXEL_MM)
    assert found == anatomy.REACH_MM


def test_soft_tissue_lies_away_from_air_in_its_slice_and_the_ones_beside_it() -> None:
    muscle = np.full((80, 80), 50.0)
    hollow = muscle.copy()
    hollow[20:60, 20:60] = -850
    hu = [np.pad(one, 10, constant_values=-1000.0) for one in (*[muscle] * 9, hollow)]
    masks = [anatomy.masks(one.astype(np.float32), PIXEL_MM) for one in hu]
    found = anatomy.soft_tissue(hu, [one.solid for one in masks], np.arange(10) * 2.0, PIXEL_MM)
    assert found[0][50, 50]
    assert not found[0][14, 50], "the skin"
    assert found[4][50, 50]
    assert not found[5][50, 50], "8 mm from the hollow"
    fat = [np.full_like(one, -90.0) for one in hu]
    assert not any(
        one.any()
        for one in anatomy.soft_tissue(fat, [m.solid for m in masks], np.arange(10) * 2.0, PIXEL_MM)
    )
