"""Which images are sure: the score names one class, and that is the one that is called."""

from __future__ import annotations

import pytest

from appliance.interpret.certainty import BOTH, SELDOM, doubts, open_negatives
from appliance.reasons import Code
from appliance.report import ConformalBounds, Doubt

APART = ConformalBounds(alpha=0.05, with_from=0.6, without_to=0.3, n_with=100, n_without=100)
OVERLAP = ConformalBounds(alpha=0.01, with_from=0.4, without_to=0.8, n_with=200, n_without=200)
THRESHOLD = 0.5


@pytest.mark.parametrize(
    ("score", "bounds", "why"),
    [
        (0.61, APART, ()),
        (0.6, APART, ()),
        (0.55, APART, (SELDOM,)),
        (0.81, OVERLAP, ()),
        (0.8, OVERLAP, (BOTH,)),
        (0.5, OVERLAP, (BOTH,)),
    ],
)
def test_a_finding_is_sure_where_its_score_names_it_alone(
    score: float, bounds: ConformalBounds, why: tuple[Doubt, ...]
) -> None:
    assert doubts(score, bounds) == why


def test_a_finding_whose_score_names_the_other_class_alone_has_both_doubts() -> None:
    odd = ConformalBounds(alpha=0.05, with_from=0.9, without_to=0.7, n_with=50, n_without=50)
    assert doubts(0.6, odd) == (BOTH, SELDOM)


def test_an_image_without_a_finding_is_named_where_it_is_not_surely_without() -> None:
    images = [("image 1", 0.3), ("image 2", 0.31), ("image 3", 0.45)]
    assert [(r.code, r.where) for r in open_negatives(images, APART)] == [
        (Code.UNSURE_NEGATIVE, "image 2"),
        (Code.UNSURE_NEGATIVE, "image 3"),
    ]
    said = {r.where: r.text for r in open_negatives(images, OVERLAP)}
    assert said == {
        "image 3": "image 3: no finding, but unsure: it scores 0.4500; images with a finding score "
        "as low too often"
    }


def test_a_score_that_names_the_other_class_is_unsure_with_both_reasons() -> None:
    low = ConformalBounds(alpha=0.05, with_from=0.2, without_to=0.1, n_with=50, n_without=50)
    (reason,) = open_negatives([("image", 0.4)], low)
    assert "as low too often and images without one seldom score as high" in reason.text
