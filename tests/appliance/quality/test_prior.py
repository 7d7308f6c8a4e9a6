"""The shipped prior, and somebody else's row as one."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from appliance.quality.prior import SHIPPED, imported, spread
from appliance.watching.alarm import Statistic
from appliance.watching.row import Row, Watched
from appliance.watching.scanner import Scanner


def row(**watched: Watched) -> Row:
    return Row(
        key=Scanner(),
        since=datetime(2026, 1, 1, tzinfo=timezone.utc),
        watched={Statistic(name): one for name, one in watched.items()},
    )


def test_a_row_takes_over_from_the_prior_as_it_learns() -> None:
    own = 10.0
    found = [spread(n, (n - 1) * own**2, Statistic.TISSUE, SHIPPED) for n in (1, 5, 30, 1000)]
    assert found[0] == SHIPPED.spreads[Statistic.TISSUE]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(own, rel=0.01)


def test_an_imported_row_gives_spreads_and_never_middles() -> None:
    wide = Watched(n=30, mean=999.0, m2=29 * 20.0**2)
    found = imported(row(tissue=wide))
    assert found.spreads[Statistic.TISSUE] == pytest.approx(((12 * 5.7**2 + 29 * 400) / 41) ** 0.5)
    assert found.weight == SHIPPED.weight
    assert {k: v for k, v in found.spreads.items() if k is not Statistic.TISSUE} == {
        k: v for k, v in SHIPPED.spreads.items() if k is not Statistic.TISSUE
    }
    other = imported(row(tissue=wide.model_copy(update={"mean": -5.0})))
    assert other == found


def test_what_learnt_from_few_or_still_learns_is_no_prior() -> None:
    few = Watched(n=19, m2=1e6)
    learning = Watched(n=29, first=(50.0,) * 29)
    counted = Watched(n=30, mean=2.0, weight=30.0)
    assert imported(row(tissue=few, air=learning, findings=counted)) == SHIPPED
