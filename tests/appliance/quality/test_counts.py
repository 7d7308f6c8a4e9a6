"""Counts: what a sum of log likelihood ratios sees, and how rarely it alarms by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from appliance.quality import counts
from appliance.quality.counts import Count
from appliance.watching.alarm import Statistic
from appliance.watching.quality import Outputs

MANY = 10_000
"""So many learnt series leave no error in the usual."""


def test_what_was_not_analysed_is_an_abstention_and_nothing_else() -> None:
    assert counts.counts(Outputs(analysed=False)) == {Statistic.ABSTAINED: Count(1, 1)}
    unsure = counts.counts(Outputs(analysed=True, findings=3, unsure=2))
    assert unsure == {Statistic.ABSTAINED: Count(1, 1), Statistic.FINDINGS: Count(3, 1)}
    sure = counts.counts(Outputs(analysed=True, findings=1, scored=40, above=2))
    assert sure == {
        Statistic.ABSTAINED: Count(0, 1),
        Statistic.FINDINGS: Count(1, 1),
        Statistic.ABOVE: Count(2, 40),
    }


def test_the_share_of_the_learning_time_weighs_by_what_was_scored() -> None:
    mean, weight = 0.0, 0.0
    for events, of in ((1, 10), (9, 30), (0, 0)):
        if of:
            mean, weight = counts.learnt(mean, weight, Count(events, of))
    assert mean == pytest.approx(0.25)
    assert weight == 40


def _expected(which: Statistic, usual: float, of: int) -> tuple[float, float]:
    """The mean of exp(step) up and down, over what may be counted, where nothing changed."""
    up = down = 0.0
    for events in range(of + 1 if which is not Statistic.FINDINGS else 400):
        if which is Statistic.FINDINGS:
            p = counts.SHAPE / (counts.SHAPE + usual)
            chance = p * (1 - p) ** events  # SHAPE is 1: geometric
        else:
            rho = counts.OVERDISPERSION if which is Statistic.ABOVE else 1e-9
            a, b = usual * (1 - rho) / rho, (1 - usual) * (1 - rho) / rho
            chance = math.comb(of, events) * math.exp(
                math.lgamma(a + events)
                + math.lgamma(b + of - events)
                - math.lgamma(a + b + of)
                - math.lgamma(a)
                - math.lgamma(b)
                + math.lgamma(a + b)
            )
        step = counts.steps(which, Count(events, of), MANY, usual, float(MANY * of))
        up, down = up + chance * math.exp(step.up), down + chance * math.exp(step.down)
    return up, down


@pytest.mark.parametrize(
    ("which", "usual", "of"),
    [
        (Statistic.FINDINGS, 0.3, 1),
        (Statistic.FINDINGS, 4.0, 1),
        (Statistic.ABOVE, 0.05, 40),
        (Statistic.ABOVE, 0.5, 7),
        (Statistic.ABSTAINED, 0.05, 1),
        (Statistic.ABSTAINED, 0.4, 1),
    ],
)
def test_without_a_change_a_sum_is_no_way_to_get_rich(
    which: Statistic, usual: float, of: int
) -> None:
    """Lorden's bound holds where the mean of exp(step) is at most 1."""
    up, down = _expected(which, usual, of)
    assert 0.5 < up <= 1.001
    assert 0.5 < down <= 1.001


def test_few_learnt_series_make_it_careful() -> None:
    few = counts.steps(Statistic.FINDINGS, Count(4, 1), 15, 1.0, 15.0)
    many = counts.steps(Statistic.FINDINGS, Count(4, 1), MANY, 1.0, float(MANY))
    assert few.up < many.up
    none = counts.steps(Statistic.FINDINGS, Count(0, 1), 15, 0.0, 15.0)
    assert none.up <= 0
    assert none.down == 0, "a usual of none cannot fall"


@pytest.mark.parametrize("which", [Statistic.ABOVE, Statistic.ABSTAINED])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_usual_of_none_or_all_has_finite_steps(which: Statistic, share: float) -> None:
    for events in (0, 1):
        found = counts.steps(which, Count(events, 1), 30, share, 30.0)
        assert all(math.isfinite(value) for value in (found.up, found.down, found.away))


def test_findings_that_double_are_found_and_halved_ones_too() -> None:
    rng = np.random.default_rng(5)
    for factor, side in ((4.0, "up"), (0.1, "down")):
        total, n = 0.0, 0
        while total <= counts.LIMIT:
            events = int(rng.poisson(3.0 * factor * rng.gamma(1.0)))
            step = counts.steps(Statistic.FINDINGS, Count(events, 1), 30, 3.0, 30.0)
            total, n = max(0.0, total + getattr(step, side)), n + 1
            assert n < 100, side
