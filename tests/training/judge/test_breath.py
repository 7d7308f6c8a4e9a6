"""Pairs with exact truth: the motion, what the moved exam shows, and how it is scanned."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rigs.two_lungs import two_lungs
from training.errors import DataError
from training.judge.breath import Breath, Exam, Scan, cropped, lung_box, moved, scanned
from training.read.volume import F64, Volume


@pytest.fixture(scope="module")
def still() -> Exam:
    chest = two_lungs((3.0, 3.0, 3.0))
    volume = Volume("two lungs", chest.hu, (3.0, 3.0, 3.0), (-119.0, -104.0, -149.0))
    return Exam(volume, chest.right | chest.left, np.ones(chest.hu.shape, np.bool_))


@pytest.fixture(scope="module")
def breath(still: Exam) -> Breath:
    low, high = lung_box(still)
    origin = np.asarray(still.volume.origin)
    return Breath(low, high, origin, 20.0, (3.0, -2.0, 4.0), (5.0, -8.0, 10.0), 7)


@pytest.fixture(scope="module")
def points(breath: Breath) -> F64:
    return np.random.default_rng(0).uniform(breath.low_lps, breath.high_lps, (500, 3))


def test_there_and_back_is_where_one_was(breath: Breath, points: F64) -> None:
    there = breath.to_prior(points)
    assert np.linalg.norm(there - points, axis=1).max() > 15
    assert np.abs(breath.to_current(there) - points).max() < 0.02


def test_nothing_folds_and_a_deeper_breath_is_larger(breath: Breath, points: F64) -> None:
    stretch = breath.stretch(points)
    assert stretch.min() > 0.5
    assert stretch.mean() > 1.0


@pytest.mark.long
def test_the_moved_exam_shows_at_each_place_what_lies_where_the_truth_says(
    still: Exam, breath: Breath
) -> None:
    found = moved(still, breath)
    voxels = np.argwhere(found.covered)[::5003]
    there = still.volume.zyx(breath.to_prior(found.volume.lps(voxels)))
    hu = ndimage.map_coordinates(still.volume.hu, there.T, order=1, cval=-1000)
    dense = hu > -500  # density of lung follows its volume
    here = found.volume.hu[tuple(voxels.T)]
    assert dense.sum() > 100
    assert np.abs(here - hu)[dense].max() < 60  # edges of 900 HU, 0.05 mm off
    assert found.lungs.any()
    assert not found.covered.all()


def test_stretched_lung_is_darker(still: Exam, breath: Breath) -> None:
    found = moved(still, breath)
    deep = ndimage.binary_erosion(found.lungs, iterations=4)
    air = found.volume.hu[deep][found.volume.hu[deep] < -500]
    before = still.volume.hu[still.lungs][still.volume.hu[still.lungs] < -500]
    assert air.mean() < before.mean()


def test_a_scan_is_the_mean_over_its_slices_with_noise_of_its_size(still: Exam) -> None:
    thick = scanned(still, Scan(6.0), 1)
    assert thick.volume.spacing == (6.0, 3.0, 3.0)
    assert thick.volume.origin[2] == still.volume.origin[2] + 1.5
    assert np.allclose(thick.volume.hu[3], np.clip(still.volume.hu[6:8].mean(0), -1024, None))
    noisy = scanned(still, Scan(3.0, noise_hu=30.0), 1).volume.hu - still.volume.hu
    assert noisy[still.lungs].std() == pytest.approx(30, rel=0.1)


def test_a_ct_without_lungs_is_refused_by_name(still: Exam) -> None:
    empty = Exam(still.volume, np.zeros_like(still.lungs), still.covered)
    with pytest.raises(DataError, match="two lungs"):
        cropped(empty, 16.0)
