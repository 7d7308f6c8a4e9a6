"""New and gone are said only where the other exam could have shown it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from appliance.prior.unseen import LISTED_MM, Listed, Missing, contrast, covers, why_not
from rigs.two_exams import Ball, Exam, entry

PLACE = (45.0, 8.0, 0.0)
BALL = Ball(PLACE, 8.0)
TODAY = Exam([BALL], shift=(2.0, 3.0, -4.0))
OWN = tuple(float(v) for v in np.add(PLACE, TODAY.shift))


@pytest.fixture(scope="module")
def today():
    return entry(TODAY, "today")


def why(
    own, then: Exam, *, there=PLACE, diameter=8.0, listed=(), taken=(), weak=False
) -> tuple[str, ...]:
    missing = Missing(OWN, there, diameter)
    return why_not(missing, own, entry(then, "then"), Listed(listed, taken), weak=weak)


def test_a_finding_is_new_where_the_other_exam_shows_nothing(today):
    assert why(today, Exam()) == ()


@pytest.mark.parametrize("noise", [0.0, 40.0])
@pytest.mark.parametrize("error", [(0, 0, 0), (2.0, -2.0, 1.5), (0, 3.5, 0)])
def test_a_body_that_was_missed_then_is_seen_in_the_pixels(today, error, noise):
    missed = Exam([replace(BALL, score=0.0)], noise_hu=noise)
    there = tuple(float(v) for v in np.add(PLACE, error))
    assert why(today, missed, there=there) == ("seen_in_pixels",)


def test_a_smaller_body_that_was_missed_is_seen_too(today):
    assert why(today, Exam([replace(BALL, score=0.0, diameter=6.0)])) == ("seen_in_pixels",)


def test_a_vessel_beside_the_place_is_no_body(today):
    assert why(today, Exam(), there=(45.0, 8.0, -17.0)) == ()


def test_a_vessel_that_runs_six_millimetres_from_the_place_is_no_body(today):
    assert why(today, Exam(), there=(45.0, -19.0, 20.0)) == ()


def test_another_finding_beside_the_place_is_not_taken_for_this_one(today):
    other = (45.0, 14.5, 0.0)
    beside = Exam([Ball(other, 8.0)])
    assert why(today, beside) == ("seen_in_pixels",)
    assert why(today, beside, taken=[(other, 4.0)]) == ()


def test_a_place_inside_another_finding_cannot_be_judged(today):
    assert why(today, Exam([Ball(PLACE, 20.0)]), taken=[(PLACE, 10.0)]) == ("seen_in_pixels",)


def test_noise_is_no_body(today):
    assert why(today, Exam(noise_hu=60.0)) == ()


def test_what_is_listed_there_speaks_against_it(today):
    near, far = ((45.0, 8.0 + d, 0.0) for d in (LISTED_MM - 0.1, LISTED_MM + 0.1))
    assert why(today, Exam(), listed=[near]) == ("seen_in_pixels",)
    assert why(today, Exam(), listed=[far]) == ()


@pytest.mark.parametrize(
    ("facts", "diameter", "said"),
    [
        ({"list_full": True}, 8.0, ("list_full",)),
        ({"diseased": True}, 8.0, ("diseased",)),
        ({"spacing_mm": (4.5, 0.7, 0.7)}, 8.0, ("too_thick",)),
        ({"thickness_mm": 5.0}, 8.0, ("too_thick",)),
        ({"spacing_mm": (4.0, 0.7, 0.7)}, 8.0, ()),
        ({"bundle_digest": "d" * 64}, 5.9, ("too_small",)),
        ({"bundle_digest": "d" * 64}, 6.0, ()),
        ({}, 5.9, ()),
    ],
)
def test_what_the_other_exam_could_not_show_is_not_said(
    today, facts: dict[str, Any], diameter, said
):
    assert why(today, Exam(facts=facts), diameter=diameter) == said


def test_diseased_lungs_of_today_speak_against_it_as_well():
    own = entry(replace(TODAY, facts={"diseased": True}), "today")
    assert why(own, Exam()) == ("diseased",)


def test_with_a_weak_registration_nothing_is_new(today):
    assert why(today, Exam(), weak=True) == ("registration_weak",)


@pytest.mark.parametrize("covered", [(-100.0, 2.0), (5.0, 100.0), (-100.0, -30.0)])
def test_a_place_that_the_other_exam_does_not_cover_whole_is_outside(today, covered):
    assert why(today, Exam(covered_z=covered)) == ("outside_cover",)


@pytest.mark.parametrize("there", [(45.0, 8.0, 200.0), (-500.0, 0.0, 0.0), (84.0, 0.0, 0.0)])
def test_a_place_beyond_what_was_kept_is_outside(there):
    assert not covers(entry(Exam()).image, there, 4.0)


def test_a_body_of_no_contrast_can_never_be_said_to_be_new():
    faint = entry(replace(TODAY, balls=[replace(BALL, hu=-780.0)]), "today")
    assert why(faint, Exam()) == ("seen_in_pixels",)


def test_at_a_place_without_lung_around_it_nobody_can_tell(today):
    assert why(today, Exam(), there=(0.0, -48.0, 0.0)) == ("seen_in_pixels",)


def test_contrast_is_that_of_the_best_place_within_reach():
    image = entry(Exam([BALL])).image
    beside = (45.0, 11.0, 0.0)
    here = contrast(image, PLACE, 4.0, reach_mm=0.0)
    assert 500 < here < 890
    assert contrast(image, beside, 4.0, reach_mm=0.0) < 0.8 * here
    assert contrast(image, beside, 4.0, reach_mm=4.0) > 0.9 * here


def test_outside_of_the_image_there_is_no_contrast():
    assert contrast(entry(Exam()).image, (500.0, 0.0, 0.0), 4.0, reach_mm=4.0) is None
