"""Two cubes of one body are measured in one way, whatever kernel each came from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from appliance.prior.change import (
    Measuring,
    blurred,
    changes,
    edges_of,
    same_kernel,
    sizes,
    softest,
)
from appliance.prior.entry import CUBE, CUBE_MM
from appliance.prior.repeated import MEASURED
from appliance.report import Coverage
from rigs.two_exams import Ball, Exam, bundles, entry

RIGHT, LEFT = (45.0, 0.0, 0.0), (-45.0, 15.0, 25.0)


@pytest.fixture(scope="module")
def by():
    loaded = bundles().nodules
    return Measuring(loaded.manifest, loaded.backend)


def edge(sigma_mm: float) -> np.ndarray:
    """A plane edge across z behind a Gaussian of so much."""
    z = (np.arange(CUBE) - CUBE / 2) * CUBE_MM
    share = special.ndtr(z / sigma_mm)
    return np.rint(-850 + 900 * np.broadcast_to(share[:, None, None], (CUBE,) * 3)).astype(np.int16)


def spread(values: np.ndarray) -> float:
    """SD in mm of the slope of an edge along z."""
    slope = np.diff(values.mean(axis=(1, 2)))[12:-12]
    at = (np.arange(len(slope)) - len(slope) / 2) * CUBE_MM
    middle = (at * slope).sum() / slope.sum()
    return float(np.sqrt(((at - middle) ** 2 * slope).sum() / slope.sum()))


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.5])
def test_a_blur_widens_an_edge_by_what_was_asked_for(sigma):
    sharp = edge(0.8)
    own = spread(sharp.astype(float))
    wide = blurred(sharp, (own, 9.0), (float(np.hypot(own, sigma)), 9.0))
    assert spread(wide) == pytest.approx(np.hypot(own, sigma), rel=0.03)


def test_along_z_and_in_the_plane_it_is_blurred_by_its_own_figure():
    cube = np.zeros((CUBE,) * 3, np.int16)
    cube[24, 24, 24] = 10000
    seen = blurred(cube, (0.5, 0.5), (0.5, 1.5))
    assert np.count_nonzero(seen.sum(axis=(1, 2)) > 1) == 1
    assert np.count_nonzero(seen.sum(axis=(0, 2)) > 1) > 5


def test_a_blur_changes_no_even_image_and_nothing_at_the_border():
    even = np.full((CUBE,) * 3, -700, np.int16)
    assert np.abs(blurred(even, (0.4, 0.4), (2.0, 2.0)) + 700).max() < 0.01


@pytest.mark.parametrize("size", [7.0, 9.0, 12.0])
def test_growth_by_a_kernel_alone_is_none_where_the_spread_of_one_is_unknown(by, size):
    ball = Ball(RIGHT, size)
    sharp = entry(Exam([ball], sharp_mm=0.4), "sharp")
    soft = entry(Exam([ball], sharp_mm=1.4, taken="20250101"), "soft")
    soft = replace(soft, facts=soft.facts.model_copy(update={"spread_mm": None}))
    (measured,) = changes(
        [(sharp.cubes[0], soft.cubes[0])], sharp, soft, by, days=366, rows=MEASURED
    )
    assert measured.change.difference_percent > 30  # by the kernel alone
    assert measured.change.verdict == "within_error"


@pytest.mark.parametrize("pair", [(None, (1.0, 1.0)), ((1.0, 1.0), None)])
def test_where_a_spread_is_unknown_nothing_is_blurred(pair):
    own, other = pair
    sharp = edge(0.5)
    assert softest(own, other) is None
    assert np.array_equal(blurred(sharp, own, softest(own, other)), sharp)


def test_the_softer_of_both_is_taken_along_each_direction():
    assert softest((0.5, 1.0), (0.8, 0.6)) == (0.8, 1.0)


def test_a_ball_of_another_kernel_is_as_large_once_both_are_alike(by):
    ball = Ball(RIGHT, 9.0)
    sharp = entry(Exam([ball], sharp_mm=0.4), "sharp")
    soft = entry(Exam([ball], sharp_mm=1.4, taken="20250101"), "soft")
    (measured,) = changes([(sharp.cubes[0], soft.cubes[0])], sharp, soft, by, days=366)
    assert measured.then.volume_mm3 == pytest.approx(measured.now.volume_mm3, rel=0.05)
    assert measured.change.verdict == "within_error"
    (plain,) = sizes(sharp.cubes, sharp, None, by)
    assert measured.now.volume_mm3 / plain.volume_mm3 > 1.25  # growth by kernel alone


def test_what_grew_is_larger_and_what_shrank_is_smaller(by):
    small, large = (
        entry(Exam([Ball(RIGHT, d), Ball(LEFT, e)]), name)
        for name, d, e in (("a", 8.0, 13.0), ("b", 11.0, 9.0))
    )
    pairs = list(zip(small.cubes, large.cubes, strict=True))
    one, two = changes(pairs, small, large, by, days=365)
    assert [one.change.verdict, two.change.verdict] == ["larger", "smaller"]
    assert one.now.volume_mm3 / one.then.volume_mm3 == pytest.approx((11 / 8) ** 3, rel=0.15)


def test_of_thick_slices_no_volume_is_given(by):
    thick = entry(Exam([Ball(RIGHT)], facts={"spacing_mm": (2.0, 0.7, 0.7), "thickness_mm": 3.0}))
    (found,) = sizes(thick.cubes, thick, None, by)
    assert found.volume_mm3 is None
    assert found.mean_axis_mm == pytest.approx(10, abs=1)


def test_a_body_at_the_edge_of_the_images_is_not_measured(by):
    exam = entry(Exam([Ball(RIGHT)]))
    assert sizes(exam.cubes, exam, None, by)[0].mean_axis_mm is not None
    top = exam.report.coverage.model_copy(update={"z_mm": (-60.0, 4.0)})
    cut = replace(exam, report=exam.report.model_copy(update={"coverage": top}))
    assert sizes(cut.cubes, cut, None, by)[0].mean_axis_mm is None


def test_an_exam_that_does_not_say_where_its_images_end_is_not_measured(by):
    exam = entry(Exam([Ball(RIGHT)]))
    silent = replace(exam, report=exam.report.model_copy(update={"coverage": Coverage()}))
    assert edges_of(silent) is None
    found = changes([(silent.cubes[0], exam.cubes[0])], silent, exam, by, days=365)
    assert found[0].change is None


def test_two_findings_that_touch_share_their_body(by):
    x, y, z = RIGHT
    both = entry(Exam([Ball((x - 4.5, y, z), 10.0), Ball((x + 4.5, y, z), 10.0)]))
    for found in sizes(both.cubes, both, None, by):
        assert found.volume_mm3 is None or found.volume_mm3 < 1.4 * np.pi / 6 * 10**3


@pytest.mark.parametrize(
    ("facts", "same"),
    [
        ({}, True),
        ({"kernel": "B70f"}, False),
        ({"kernel": None}, False),
        ({"maker": "GE"}, False),
        ({"spread_mm": None}, False),
    ],
)
def test_one_kernel_is_one_name_of_one_maker_with_a_known_spread(facts, same):
    one, other = (entry(Exam(facts=more)).facts for more in ({}, facts))
    assert same_kernel(one, other) is same_kernel(other, one) is same


def test_more_cubes_than_go_into_one_run_are_all_measured(by):
    places = [(x, y, z) for x in (-45.0, 45.0) for y in (-14.0, 14.0) for z in (-20.0, 0.0, 20.0)]
    many = entry(Exam([Ball(place, 9.0) for place in places]))
    found = sizes(many.cubes, many, None, by)
    assert len(found) == 12
    assert all(one.mean_axis_mm == pytest.approx(9, abs=1.2) for one in found)
    (alone,) = sizes(many.cubes[9:10], many, None, by)
    assert found[9].volume_mm3 == pytest.approx(alone.volume_mm3, rel=1e-3)
