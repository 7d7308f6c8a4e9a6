"""Boxes of the lungs laid over one another, and what is done where a box does not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from appliance.prior.align import Alignment, aligned
from rigs import breathing

F64 = NDArray[np.float64]
SCALE, SHIFT = np.array([1.05, 0.95, 1.1]), np.array([6.0, -9.0, 12.0])


def stretched(points: F64) -> F64:
    """Along each axis by itself."""
    return points * SCALE + SHIFT


def lifted(points: F64) -> F64:
    """Only shifted: its lungs are as large."""
    return points + np.array([4.0, 2.0, 10.0])


def off(found: Alignment, motion: breathing.Motion, points: F64) -> float:
    """Largest distance along an axis, mm."""
    return float(np.abs(found.to_prior(points) - motion(points)).max())


def test_a_chest_that_is_only_scaled_and_shifted_is_met() -> None:
    then, now = breathing.chest(), breathing.chest(stretched)
    found = aligned(then, now)
    assert not found.guessed
    assert off(found, stretched, breathing.places(now)) < 2.5
    assert np.allclose(found.scale, SCALE, atol=0.02)


def test_the_way_back_is_its_inverse() -> None:
    way = Alignment(SCALE, SHIFT)
    points = np.random.default_rng(0).normal(0, 80, (20, 3))
    assert np.allclose(way.to_aligned(way.to_prior(points)), points)


def test_lungs_cut_at_one_end_are_laid_on_what_they_show() -> None:
    then, now = breathing.chest(), breathing.slices(breathing.chest(lifted, seed=6), 40, 112)
    found = aligned(then, now)
    assert found.guessed
    assert found.scale[2] == 1
    assert off(found, lifted, breathing.places(now)) < 10


def test_lungs_cut_at_both_ends_in_both_exams_are_found_by_their_images() -> None:
    then = breathing.slices(breathing.chest(), 20, 90)
    now = breathing.slices(breathing.chest(lifted, seed=6), 25, 95)
    found = aligned(then, now)
    assert found.guessed
    assert off(found, lifted, breathing.places(now)) < 12


def test_one_lung_is_not_stretched_over_two() -> None:
    then, now = breathing.one_lung(breathing.chest()), breathing.chest(lifted, seed=6)
    found = aligned(then, now)
    assert found.guessed
    assert found.scale[0] == 1
    assert off(found, lifted, breathing.places(now)) < 10


def test_empty_masks_are_laid_middle_on_middle() -> None:
    then = breathing.chest()
    nothing = replace(then, lungs=np.zeros_like(then.lungs))
    found = aligned(nothing, breathing.slices(nothing, 0, 56))
    assert found.scale.tolist() == [1, 1, 1]
    assert found.shift.tolist() == [0, 0, 56]


def test_a_speck_beside_the_lungs_does_not_change_their_box() -> None:
    then = breathing.chest()
    lungs = then.lungs.copy()
    lungs[2, 2, 2] = lungs[-3, -3, -3] = True
    points = breathing.places(then)
    assert off(aligned(then, replace(then, lungs=lungs)), breathing.still, points) < 2.5
