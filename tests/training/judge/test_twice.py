"""One made-up chest as two exams with lesions whose course is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.quality.implant import SHAPE_MM, Shape
from rigs.two_lungs import two_lungs
from training.errors import DataError
from training.implant.hosts import Host
from training.implant.nodules import find_places
from training.judge.breath import Exam, Scan
from training.judge.opened import open_bundle
from training.judge.registration import FACTORY
from training.judge.twice import FATES, FIRST, Scanner, Two, drawn, kept, scanners, sizes
from training.read.volume import F64, Bool, Volume

MM = 1.5
PLACES = ("then_lps", "now_lps")


def ball() -> Shape:
    """Of 10 mm."""
    at = (np.arange(20) - 9.5) * SHAPE_MM
    away = np.sqrt(at[:, None, None] ** 2 + at[None, :, None] ** 2 + at[None, None] ** 2)
    return Shape(np.where(away <= 5, 255, 0).astype(np.uint8), 10.0, 1, "made")


@pytest.fixture(scope="module")
def chest() -> tuple[Host, Bool]:
    made = two_lungs((MM, MM, MM))
    lungs = made.right | made.left
    volume = Volume("two lungs", made.hu, (MM, MM, MM), (-119.0, -104.0, -149.0))
    nothing = np.zeros_like(lungs)
    return Host(volume, 15.0, find_places(lungs, made.hu, MM, nothing), (), nothing), lungs


@pytest.fixture(scope="module")
def two(chest: tuple[Host, Bool]) -> Two:
    return drawn(*chest, [ball()], 3)


def hu_at(exam: Exam, lps: F64) -> float:
    """Mean of the voxels around a place."""
    z, y, x = np.round(exam.volume.zyx(lps)).astype(int)
    return float(exam.volume.hu[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].mean())


@pytest.mark.long
def test_a_lesion_lies_where_the_truth_says_in_each_exam_that_has_it(two: Two) -> None:
    assert len(two.courses) > len(FATES) / 2
    for course in two.courses:
        if course.kind in ("solid", "calcified"):
            for exam, at, size in (
                (two.prior, course.then_lps, course.then_mm),
                (two.current, course.now_lps, course.now_mm),
            ):
                assert (hu_at(exam, at) > -500) == (size is not None)


def test_both_places_of_a_lesion_are_one_place_of_the_chest(two: Two) -> None:
    then, now = (np.array([getattr(c, name) for c in two.courses]) for name in PLACES)
    assert np.abs(two.to_prior(now) - then).max() < 0.05
    assert np.abs(now - then).max() > 5


def test_sizes_follow_the_fate() -> None:
    rng = np.random.default_rng(0)
    drawn_of = {fate: sizes(rng, fate) for fate in FATES}
    assert drawn_of["appears"][0] is None
    assert drawn_of["vanishes"][1] is None
    both = {fate: pair for fate, pair in drawn_of.items() if None not in pair}
    ratio = {fate: ((now or 0) / (then or 1)) ** 3 for fate, (then, now) in both.items()}
    assert ratio["stays"] == pytest.approx(1)
    assert ratio["doubles"] == pytest.approx(2)
    assert ratio["shrinks"] < 1 < ratio["grows"]


@pytest.mark.long
def test_the_same_seed_gives_the_same_pair(chest: tuple[Host, Bool], two: Two) -> None:
    again = drawn(*chest, [ball()], 3)
    assert np.array_equal(again.current.volume.hu, two.current.volume.hu)
    assert [c.now_mm for c in again.courses] == [c.now_mm for c in two.courses]
    assert scanners(3, "a") == scanners(3, "a")
    assert scanners(3, "a") != scanners(4, "a")


@pytest.mark.long
def test_an_exam_becomes_an_entry_with_the_facts_of_its_scan(two: Two) -> None:
    opened = open_bundle(FACTORY, 1)
    by = Scanner("SHARP", Scan(2.0, -0.5, 15.0), FIRST)
    entry = kept(two.current, by, 1, opened)
    assert entry.facts.spacing_mm[0] == 2.0
    assert (entry.facts.kernel, entry.facts.taken) == ("SHARP", "20240108093000")
    assert entry.image.lungs.any()
    air = np.full_like(two.current.volume.hu, -1000.0)
    empty = replace(two.current, volume=replace(two.current.volume, hu=air))
    with pytest.raises(DataError, match="two lungs: the line does not analyse this exam"):
        kept(empty, by, 1, opened)
