"""How long a result took after the last slice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from appliance.report import Report, Stage
from appliance.web.views import latency
from appliance.web.views.latency import Latency

Timed = Callable[..., Report]


def test_the_waiting_is_apart_from_the_work(timed: Timed, noon: datetime) -> None:
    found = latency.of_report(timed(3.5), noon.timestamp() + 2.0)
    assert found == Latency(3.5, 2.0)
    assert found.work_s == 1.5


def test_a_preliminary_report_waits_for_nothing(timed: Timed) -> None:
    assert latency.of_report(timed(1.2, Stage.PRELIMINARY), None) == Latency(1.2, 0.0)


@pytest.mark.parametrize("judged", [None, -5.0, 9.0])
def test_a_verdict_that_does_not_fit_leaves_the_waiting_unknown(
    timed: Timed, noon: datetime, judged: float | None
) -> None:
    at = None if judged is None else noon.timestamp() + judged
    found = latency.of_report(timed(3.5), at)
    assert found == Latency(3.5, None)
    assert found.work_s is None


def test_a_clock_that_was_set_back_makes_no_latency(
    timed: Timed, make_report: Callable[..., Report]
) -> None:
    assert latency.of_report(timed(-3.0), None) is None
    assert latency.of_report(make_report(), None) is None


def test_the_slowest_one_counts(timed: Timed) -> None:
    assert latency.slowest([None, Latency(1, None), Latency(4, 2)]) == Latency(4, 2)
    assert latency.slowest([None]) is None
