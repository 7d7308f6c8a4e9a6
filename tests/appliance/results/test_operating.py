"""The curve of a bundle: what counts, by hand-made scans whose figures are known."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from appliance.report import Report
from appliance.results.feedback import Feedback, ReportScores
from appliance.results.operating import LEAST_SCANS, Operating, of_bundles
from rigs.feedback import act
from rigs.reports import DIGEST


@pytest.fixture
def report(make_report: Callable[..., Report]) -> Report:
    return make_report()


def scan(
    report: Report,
    verdicts: dict[float, str],
    *,
    below: tuple[float, ...] = (),
    missed: tuple[float | None, ...] = (),
    findings: int | None = None,
    **more: Any,
) -> list[Feedback]:
    """What was said of one scan: score of each finding -> accept or reject."""
    count = len(verdicts) if findings is None else findings
    scores = ReportScores(threshold=0.5, findings=count, below=below)
    ids = {"report_id": uuid.uuid4(), "series": uuid.uuid4(), **more}
    acts = [
        act(report, verdict, finding=n, score=score, **ids)
        for n, (score, verdict) in enumerate(verdicts.items(), start=1)
    ]
    acts += [act(report, "missed", score=score, **ids) for score in missed]
    acts[0] = acts[0].model_copy(update={"scores": scores})
    return acts


def at(curve: Operating, threshold: float) -> tuple[int, float | None, float]:
    (point,) = [point for point in curve.points if point.threshold == threshold]
    return point.found, point.sensitivity, point.fp_per_scan


def test_a_threshold_finds_the_marks_and_the_rejected_that_scored_so_high(report: Report) -> None:
    acts = [
        *scan(report, {0.9: "accept", 0.7: "reject"}, below=(0.4, 0.2), missed=(0.4,)),
        *scan(report, {0.6: "accept"}, below=(0.3,), missed=(None,)),
    ]
    (curve,) = of_bundles(acts)
    assert (curve.bundle, curve.threshold, curve.scans) == (DIGEST, 0.5, 2)
    assert (curve.marks, curve.missed, curve.missed_unscored) == (4, 2, 1)
    assert at(curve, 0.5) == (2, 0.5, 0.5)
    assert at(curve, 0.65) == (1, 0.25, 0.5)
    assert at(curve, 0.75) == (1, 0.25, 0.0)
    assert at(curve, 0.4) == (3, 0.75, 0.5), "the missed one is found, and is no false positive"
    assert at(curve, 0.05) == (3, 0.75, 1.5), "one is never found: nothing was scored there"
    assert [p.upper_bound for p in curve.points] == [p.threshold < 0.5 for p in curve.points]
    assert "lower" in curve.beyond


def test_only_scans_that_were_read_to_the_end_are_counted(report: Report) -> None:
    whole = scan(report, {0.9: "accept"})
    begun = scan(report, {0.8: "reject"}, findings=2)
    unscored = [one.model_copy(update={"scores": None}) for one in scan(report, {0.8: "reject"})]
    (curve,) = of_bundles([*whole, *begun, *unscored])
    assert (curve.scans, curve.scans_begun) == (1, 2)
    assert at(curve, 0.5) == (1, 1.0, 0.0)
    assert of_bundles(begun) == ()


def test_an_undo_makes_a_scan_unread_and_the_last_verdict_counts(report: Report) -> None:
    first = scan(report, {0.9: "accept"})
    ids = {"report_id": first[0].report_id, "series": first[0].series}
    undo = act(report, "undo", finding=1, undoes=first[0].uid, **ids)
    assert of_bundles([*first, undo]) == ()
    (curve,) = of_bundles([*first, undo, act(report, "reject", score=0.9, **ids)])
    assert at(curve, 0.5) == (0, None, 1.0)


def test_of_a_series_that_was_reported_again_the_last_report_counts(report: Report) -> None:
    series = uuid.uuid4()
    old = scan(report, {0.9: "accept", 0.8: "reject"}, series=series)
    new = scan(report, {0.95: "accept"}, series=series)
    (curve,) = of_bundles([*old, *new])
    assert (curve.scans, curve.marks) == (1, 1)
    assert at(curve, 0.5) == (1, 1.0, 0.0)


def test_findings_of_another_threshold_are_on_no_curve_and_counted_apart(report: Report) -> None:
    acts = scan(report, {0.9: "accept", 0.8: "accept", 0.7: "reject"})
    acts[1:] = [one.model_copy(update={"score": None}) for one in acts[1:]]
    (curve,) = of_bundles(acts)
    assert (curve.scans, curve.marks) == (1, 1)
    assert (curve.off_curve, curve.off_curve_rejected) == (1, 1)
    assert at(curve, 0.5) == (1, 1.0, 0.0), "the rejected one is no false positive of this curve"


def test_each_bundle_has_a_curve_of_its_own(report: Report) -> None:
    other = [one.model_copy(update={"bundle": "0" * 64}) for one in scan(report, {0.7: "reject"})]
    curves = of_bundles([*scan(report, {0.9: "accept"}), *other])
    assert [curve.bundle for curve in curves] == ["0" * 64, DIGEST]


def test_a_proposal_loses_no_mark_has_fewer_false_positives_and_needs_enough_scans(
    report: Report,
) -> None:
    acts = [
        one
        for _ in range(LEAST_SCANS)
        for one in scan(report, {0.83: "accept", 0.62: "reject", 0.58: "reject"})
    ]
    (curve,) = of_bundles(acts)
    assert curve.proposed == 0.8
    (few,) = of_bundles(acts[3:])
    assert few.scans == LEAST_SCANS - 1
    assert few.proposed is None
    sure = [one for _ in range(LEAST_SCANS) for one in scan(report, {0.83: "accept"})]
    assert of_bundles(sure)[0].proposed is None, "there is nothing to win"


def test_the_interval_of_false_positives_is_that_of_the_books(report: Report) -> None:
    counted = [*([{0.9: "reject", 0.8: "reject"}] * 30), *([{0.9: "accept"}] * 70)]
    acts = [one for verdicts in counted for one in scan(report, verdicts)]
    (curve,) = of_bundles(acts)
    (point,) = [p for p in curve.points if p.threshold == 0.5]
    assert point.fp_per_scan == pytest.approx(0.6)
    low, high = point.fp_per_scan_95 or (0, 0)
    # the mean of 100 draws of 0 or 2 has a standard error of 2 * sqrt(0.3 * 0.7 / 100)
    assert (low, high) == pytest.approx((0.6 - 1.96 * 0.0917, 0.6 + 1.96 * 0.0917), abs=0.04)
    assert of_bundles(acts) == (curve,), "the same marks give the same figures"
    few = of_bundles(acts[:4])[0].points[0]
    assert few.fp_per_scan_95 is None
