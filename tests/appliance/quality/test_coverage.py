"""The bounds of certainty, and what readers' verdicts say of how often they hold."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence

import numpy as np
import pytest

from appliance.quality.coverage import (
    LEAST,
    Image,
    LocalCoverage,
    bounds,
    of_bundles,
    of_class,
)
from appliance.report import ConformalBounds
from appliance.results.feedback import Feedback, PlacePx, Read, ReportScores, Verdict

BUNDLE = "b" * 64
FITTED = ConformalBounds(alpha=0.1, with_from=0.6, without_to=0.4, n_with=389, n_without=135)
THRESHOLD = 0.5


def test_a_bound_is_the_score_of_the_rank_that_split_conformal_prediction_asks_for() -> None:
    """k = ceil(10 * .8) = 8 of 9: the second lowest of those with, the second highest without."""
    tenths = [n / 10 for n in range(1, 10)]
    found = bounds(tenths, tenths, 0.2)
    assert (found.with_from, found.without_to) == (0.2, 0.8)
    assert (found.n_with, found.n_without) == (9, 9)


def test_where_a_class_has_too_few_images_no_score_is_beyond_its_bound() -> None:
    few = bounds([0.9] * 18, [0.1] * 19, 0.05)
    assert (few.with_from, few.without_to) == (0.0, 0.1)
    with pytest.raises(ValueError, match="both classes"):
        bounds([0.9], [], 0.05)


def test_bounds_are_rounded_outwards() -> None:
    found = bounds([0.12345678] * 99, [0.12345678] * 99, 0.1)
    assert found.with_from < 0.12345678 < found.without_to
    assert found.without_to - found.with_from == pytest.approx(1e-6)


@pytest.mark.parametrize("alpha", [0.02, 0.1])
def test_a_new_image_of_either_class_lies_within_its_bound_as_often_as_promised(
    alpha: float,
) -> None:
    """Over 2,000 fits; the expected coverage of 199 images is k / 200. Classes of another share,
    or of scores that are anything but calibrated, change nothing."""
    rng = np.random.default_rng(5)
    held = np.zeros((2000, 2))
    for n in range(len(held)):
        fit = bounds(list(rng.beta(4, 1, 199)), list(rng.beta(1, 2, 199)), alpha)
        held[n] = rng.beta(4, 1) >= fit.with_from, rng.beta(1, 2) <= fit.without_to
    expected = math.ceil(round(200 * (1 - alpha), 9)) / 200
    assert (np.abs(held.mean(axis=0) - expected) < 4 * math.sqrt(alpha / len(held))).all()


def test_another_hospital_breaks_the_promise() -> None:
    rng = np.random.default_rng(6)
    fit = bounds(list(rng.beta(4, 1, 400)), list(rng.beta(1, 4, 400)), 0.1)
    dim = [Image(float(s), finding=True) for s in rng.beta(2, 2, 400)]
    found = of_class(dim, fit, THRESHOLD, finding=True)
    assert found.share is not None
    assert found.share < 0.7


def test_an_image_is_within_surely_other_or_unsure() -> None:
    images = [Image(s, finding=True) for s in (0.9, 0.6, 0.5, 0.41, 0.4, 0.1)]
    found = of_class(images, FITTED, THRESHOLD, finding=True)
    assert (found.n, found.within, found.other, found.unsure) == (6, 2, 2, 2)
    assert of_class(images, FITTED, THRESHOLD, finding=False).share is None


class Said:
    """Reports of one bundle, and what readers say of them."""

    def __init__(self) -> None:
        self.acts: list[Feedback] = []
        self.reads: list[Read] = []

    def report(
        self,
        score: float | Sequence[float],
        verdict: Verdict | None = None,
        *,
        missed: bool = False,
        read: bool | None = True,
        certainty: ConformalBounds | None = FITTED,
        series: uuid.UUID | None = None,
    ) -> None:
        """An image or several with these scores; each finding gets the verdict. read None: nobody
        said anything of it."""
        scored = [score] if isinstance(score, float) else list(score)
        above = [s for s in scored if s >= THRESHOLD]
        below = tuple(s for s in scored if s < THRESHOLD)
        kept = ReportScores(
            threshold=THRESHOLD, findings=len(above), below=below, certainty=certainty
        )
        about = {"report_id": uuid.uuid4(), "series": series or uuid.uuid4(), "bundle": BUNDLE}
        who = {"role": "radiologist", "reader": "ab", "at": 1.0}
        for number, one in enumerate(above, start=1):
            if verdict is not None:
                act = {"verdict": verdict, "finding": number, "score": one}
                self._act({**about, **who, **act})
        if missed:
            place = PlacePx(image=0, column=1, row=1)
            self._act({**about, **who, "verdict": "missed", "place_px": place, "size_mm": 20})
        if read is not None:
            self.reads.append(
                Read.model_validate(
                    {**about, **who, "uid": uuid.uuid4(), "done": read, "scores": kept}
                )
            )

    def _act(self, values: dict[str, object]) -> None:
        self.acts.append(
            Feedback.model_validate({**values, "uid": uuid.uuid4(), "study": "0" * 32})
        )

    def found(self) -> LocalCoverage:
        (found,) = of_bundles(self.acts, self.reads)
        return found


def filled(said: Said, count: int) -> Said:
    """So many images of each class, one in ten of each beyond its bound."""
    for n in range(count):
        said.report(0.55 if n % 10 == 0 else 0.9, "accept")
        said.report(0.45 if n % 10 == 0 else 0.1)
    return said


def test_coverage_is_counted_for_each_class_with_its_interval() -> None:
    found = filled(Said(), LEAST).found()
    ill, well = found.with_finding, found.without_finding
    assert (ill.n, ill.within, well.n, well.within) == (50, 45, 50, 45)
    assert (ill.other, ill.unsure, well.other, well.unsure) == (0, 5, 0, 5)
    assert ill.share_95 == pytest.approx((0.786, 0.957), abs=0.001)
    assert found.promised == 0.9
    assert found.proposed is not None
    assert found.proposed.n_with == 50
    assert (found.proposed.with_from, found.proposed.without_to) == (0.55, 0.45)


def test_under_50_of_either_class_nothing_is_shown_or_proposed() -> None:
    said = filled(Said(), LEAST - 1)
    said.report(0.9, "accept")
    found = said.found()
    assert (found.with_finding.n, found.without_finding.n) == (50, 49)
    assert found.with_finding.within is found.with_finding.share_95 is found.proposed is None
    said.report(0.1)
    assert said.found().with_finding.within == 45


def test_an_image_counts_by_what_was_said_in_it_at_last() -> None:
    said = Said()
    said.report(0.7, "accept")
    said.report(0.7, "reject")
    said.report(0.7, "reject", missed=True)
    said.report(0.2, missed=True)
    said.report(0.2)
    said.report((0.9, 0.8, 0.1), "reject")
    found = said.found()
    assert (found.with_finding.n, found.without_finding.n) == (3, 5)
    assert (found.reports, found.left_out) == (6, 0)


def test_what_was_not_read_to_the_end_does_not_count() -> None:
    said = Said()
    said.report(0.1)
    said.report(0.9, "accept", read=None)
    said.report(0.9, "accept", read=False)
    said.report(0.1, certainty=None)
    assert said.found().reports == 1
    said.report(0.9)  # read, but its finding has no verdict
    said.report((0.2, 0.1), missed=True)  # of which image?
    found = said.found()
    assert (found.reports, found.left_out) == (1, 2)
    assert (found.with_finding.n, found.without_finding.n) == (0, 1)


def test_the_last_act_of_a_report_counts_and_the_last_report_of_a_series() -> None:
    said, series = Said(), uuid.uuid4()
    said.report(0.1, series=series)
    said.report(0.2, missed=True, series=series)
    found = said.found()
    assert (found.with_finding.n, found.without_finding.n) == (1, 0)
    last = said.reads[-1]
    said.reads.append(last.model_copy(update={"uid": uuid.uuid4(), "done": False}))
    assert said.found().without_finding.n == 1
