"""Rows for other boxes, and what a box believes of theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.quality.exchange import ExchangedRow, Learnt, exported, prior_of
from appliance.series.scanner import shown
from appliance.watching.alarm import Statistic
from appliance.watching.row import Prior, Row, Watched
from appliance.watching.scanner import UNKNOWN
from rigs.watched import BEGAN, OTHER, SCANNER

SHIPPED = Prior(spreads={Statistic.NOISE: 0.2, Statistic.TISSUE: 6.0})


def brought(sd: float, n: int = 31, kernel: str = "B40f") -> ExchangedRow:
    return ExchangedRow(
        modality="CT", maker=SCANNER.maker, model=SCANNER.model, kernel=kernel, n=n,
        learnt={Statistic.NOISE: Learnt(n=n, mean=3.0, sd=sd)},
    )  # fmt: skip


def test_a_spread_of_the_same_kind_takes_the_place_of_the_shipped_one() -> None:
    prior = prior_of(SCANNER, [brought(0.1)], SHIPPED)
    assert prior.spreads == {Statistic.NOISE: pytest.approx(0.1), Statistic.TISSUE: 6.0}
    assert prior.weight == SHIPPED.weight
    assert prior_of(OTHER, [brought(0.1)], SHIPPED) == SHIPPED
    assert prior_of(SCANNER, [brought(0.1, kernel="B70f")], SHIPPED) == SHIPPED


def test_several_spreads_are_pooled_by_what_they_are_worth() -> None:
    prior = prior_of(SCANNER, [brought(0.1, 31), brought(0.3, 61)], SHIPPED)
    pooled = ((30 * 0.01 + 60 * 0.09) / 90) ** 0.5
    assert prior.spreads[Statistic.NOISE] == pytest.approx(pooled)


@given(st.floats(0, 1e300), st.integers(20, 10**9))
def test_no_file_makes_a_box_deaf_or_alarm_at_everything(sd: float, n: int) -> None:
    spread = prior_of(SCANNER, [brought(min(sd, 1e150), n)], SHIPPED).spreads[Statistic.NOISE]
    assert 0.05 <= spread <= 0.8


def test_a_scanner_that_does_not_say_what_it_is_gets_nobodys_spread() -> None:
    nameless = SCANNER.model_copy(update={"model": UNKNOWN})
    row = brought(0.1).model_copy(update={"model": UNKNOWN})
    assert prior_of(nameless, [row], SHIPPED) == SHIPPED


def test_of_few_studies_nothing_leaves() -> None:
    learnt = {Statistic.NOISE: Watched(n=25, mean=3.0, m2=0.24), Statistic.AIR: Watched(n=3)}
    few = Row(key=SCANNER, since=BEGAN, n=25, learnt=19, watched=learnt)
    assert exported([few], shown).rows == ()
    (row,) = exported([few.model_copy(update={"learnt": 25})], shown).rows
    assert row.learnt == {Statistic.NOISE: Learnt(n=25, mean=3.0, sd=0.1)}
    assert SCANNER.serial not in row.model_dump_json()


def test_a_row_that_learns_still_and_a_count_are_told_apart() -> None:
    first = tuple(2.0 + 0.1 * (number % 2) for number in range(20))
    watched = {
        Statistic.NOISE: Watched(n=20, first=first),
        Statistic.FINDINGS: Watched(n=20, mean=1.2, weight=20.0),
    }
    (row,) = exported([Row(key=SCANNER, since=BEGAN, n=20, learnt=20, watched=watched)], shown).rows
    assert row.learnt == {Statistic.NOISE: Learnt(n=20, mean=2.05, sd=0.0512989)}
