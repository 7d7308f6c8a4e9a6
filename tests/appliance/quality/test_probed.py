"""Implants are found by the rule of the judge, and figures have intervals over series."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
import pytest
from pydantic import ValidationError

from appliance.quality import probed
from appliance.quality.probed import Ball
from appliance.quality.trial import Setting
from appliance.report import Finding
from appliance.watching.probe import ProbedSeries, Tuned
from training.judge.froc import Places, verdicts_of

BUNDLE, OTHER = "a" * 64, "b" * 64
NOON = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)


def finding(x: float, score: float = 0.9, diameter: float | None = 6.0) -> Finding:
    return Finding(
        id=1,
        tracking_uid="",
        kind="nodule",
        score=score,
        threshold=0.5,
        center_lps_mm=(x, 0.0, 0.0),
        box_lps_mm=(x - 3, -3.0, -3.0, x + 3, 3.0, 3.0),
        diameter_mm=diameter,
        key_image=0,
    )


def series(
    found: Sequence[bool],
    sizes: Sequence[float] | None = None,
    *,
    bundle: str = BUNDLE,
    extra: int = 0,
) -> ProbedSeries:
    return ProbedSeries(
        series=uuid.uuid4(),
        bundle=bundle,
        at=NOON,
        sizes_mm=tuple(sizes or [5.0] * len(found)),
        found=tuple(found),
        beside=extra + 1,
        extra=extra,
    )


def test_an_implant_is_found_within_its_radius_and_at_least_five_millimetres() -> None:
    implants = [Ball((0.0, 0.0, 0.0), 4.0), Ball((100.0, 0.0, 0.0), 14.0)]
    assert probed.judged([finding(4.9), finding(106.9)], implants, []).found == (True, True)
    assert probed.judged([finding(5.1), finding(107.1)], implants, []).found == (False, False)


def test_a_second_finding_at_an_implant_counts_neither_way() -> None:
    judged = probed.judged([finding(0.0), finding(2.0)], [Ball((0.0, 0.0, 0.0), 6.0)], [])
    assert judged == probed.Judged((True,), 0, 0)


def test_a_finding_that_was_there_before_is_not_caused_by_the_insertion() -> None:
    implants = [Ball((0.0, 0.0, 0.0), 6.0)]
    judged = probed.judged([finding(50.0), finding(80.0)], implants, [finding(52.0)])
    assert (judged.beside, judged.extra) == (2, 1)


def test_what_is_found_is_what_the_judge_of_the_networks_calls_found() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        implants = [Ball((float(x), 0.0, 0.0), float(d)) for x, d in rng.uniform(4, 40, (4, 2))]
        findings = [finding(float(x), float(s)) for x, s in rng.uniform(0, 1, (6, 2)) * [45, 1]]
        truth = Places(
            np.array([one.center_lps_mm for one in implants]),
            np.array([one.diameter_mm for one in implants]),
        )
        at = np.array([one.place_lps_mm for one in findings])
        verdicts = verdicts_of(at, [one.score for one in findings], truth)
        judged = probed.judged(findings, implants, [])
        assert [n in verdicts for n in range(4)] == list(judged.found)
        assert (verdicts == -1).sum() == judged.beside


def test_figures_are_of_one_bundle_and_by_size() -> None:
    rows = [
        series([True, False, True], [5.0, 6.0, 9.0], extra=1),
        series([True, True, True], [4.5, 7.9, 20.0]),
        series([False] * 3, bundle=OTHER),
    ]
    found = probed.performance(rows, Setting(BUNDLE))
    assert found is not None
    assert (found.series, found.sensitivity.implants, found.extra_per_series) == (2, 6, 0.5)
    assert found.sensitivity.value == pytest.approx(5 / 6, abs=1e-4)
    assert [(one.from_mm, one.below_mm, one.share.value) for one in found.by_size] == [
        (4.0, 6.0, 1.0),
        (6.0, 8.0, 0.5),
        (8.0, None, 1.0),
    ]
    assert probed.performance(rows, Setting("c" * 64)) is None


def test_a_series_without_an_implant_says_nothing() -> None:
    assert probed.performance([series([])], Setting(BUNDLE)) is None


def test_few_series_are_worth_no_more_than_their_number() -> None:
    """All implants of three series were found: that is three scans, not thirty."""
    few, many = probed.share([(10, 10)] * 3), probed.share([(10, 10)] * 30)
    assert few.low < 0.5
    assert many.low > 0.97
    assert few.high == many.high == 1.0


def test_series_that_differ_are_worth_less() -> None:
    alike, apart = probed.share([(5, 10)] * 10), probed.share([(10, 10), (0, 10)] * 5)
    assert alike.value == apart.value == 0.5
    assert apart.high - apart.low > 2 * (alike.high - alike.low)


def test_the_interval_holds_the_truth_in_about_nineteen_of_twenty() -> None:
    """Series whose sensitivity varies (SD .12 about .8), ten implants each."""
    rng, held = np.random.default_rng(11), 0
    for _ in range(400):
        shares = rng.beta(8.1, 2.03, 12)
        found = probed.share([(int(rng.binomial(10, p)), 10) for p in shares])
        held += found.low <= 0.8 <= found.high
    assert 0.92 <= held / 400 <= 0.99


def test_the_quantile_is_that_of_the_tables() -> None:
    table = {4: 2.776, 5: 2.571, 9: 2.262, 19: 2.093, 60: 2.000}
    assert {n: probed.student(n) for n in table} == pytest.approx(table, abs=0.01)


def test_a_record_whose_figures_do_not_fit_each_other_is_none() -> None:
    good = series([True, False])
    for change in (
        {"found": (True,)},
        {"extra": 9},
        {"tuned": (Tuned(soften_mm=0.4, found=(True,), beside=0),), "trial": 0},
        {"trial": 0},
    ):
        with pytest.raises(ValidationError):
            ProbedSeries.model_validate({**good.model_dump(), **change})
