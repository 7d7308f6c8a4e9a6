"""Rows as the journal has them, for views that are pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from appliance.reasons import Code
from appliance.report import Reason, Report, Stage, Status, Times
from appliance.store.rows import Received, Series
from rigs.reports import make_report, noon

__all__ = ["make_report", "noon"]

Make = Callable[..., Received]


@pytest.fixture
def received() -> Make:
    """state, images, series -> a series as it came."""

    def make(
        state: str = "analysed", images: int = 10, series: str = "1.2.3", ae: str = "CT1"
    ) -> Received:
        row = Series("1.2", series, state, ae, 100.0, 200.0, images, 0, 300.0)  # type: ignore[arg-type]
        return Received(row, images)

    return make


@pytest.fixture
def limited(make_report: Callable[..., Report]) -> Callable[..., Report]:
    """code -> an analysed report with this limitation."""

    def make(code: Code = Code.GAP_FILLED, **changed: Any) -> Report:
        reason = Reason(code=code, text="one image is missing")
        return make_report().model_copy(update={"limitations": (reason,), **changed})

    return make


@pytest.fixture
def refused(make_report: Callable[..., Report]) -> Callable[..., Report]:
    """code -> a report that says why nothing was analysed."""

    def make(code: Code = Code.GANTRY_TILT, status: Status = Status.NOT_ANALYSED) -> Report:
        values = make_report().model_dump(by_alias=True)
        values |= {
            "status": status,
            "findings": (),
            "reasons": (Reason(code=code, text="the gantry was tilted by 12 degrees"),),
        }
        return Report.model_validate(values)

    return make


@pytest.fixture
def timed(make_report: Callable[..., Report], noon: datetime) -> Callable[..., Report]:
    """seconds from the last slice to the commit -> a report with its times."""

    def make(after_s: float, stage: Stage = Stage.FINAL, **changed: Any) -> Report:
        times = Times(
            first_slice=noon - timedelta(seconds=60),
            last_slice=noon,
            committed=noon + timedelta(seconds=after_s),
        )
        return make_report(stage=stage).model_copy(update={"times": times, **changed})

    return make
