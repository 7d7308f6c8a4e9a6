"""Is a series complete? One test a row of the table, then what lies between the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.reasons import Code
from appliance.series.complete import (
    RULES,
    AssociationFact,
    Quiet,
    SeriesFacts,
    learned_quiet,
    verdict,
)

OPEN, RELEASED, ABORTED = (
    AssociationFact("open", 100),
    AssociationFact("released", 100),
    AssociationFact("aborted", 100),
)


def facts(quiet_s: float, **changes: Any) -> SeriesFacts:
    """100 uniform images over 200 mm in one released association, quiet for so long."""
    usual = SeriesFacts(
        now=1000.0 + quiet_s,
        first=990.0,
        last=1000.0,
        count=100,
        expected=None,
        associations=(RELEASED,),
        uniform=True,
        cover_mm=200.0,
        min_cover_mm=150.0,
    )
    return replace(usual, **changes)


ROWS: dict[str, tuple[dict[str, Any], float]] = {
    "expected_reached": ({"expected": 100, "associations": (OPEN,)}, 0.0),
    "aborted": ({"associations": (ABORTED,)}, 30.0),
    "one_per_slice": ({"associations": (AssociationFact("released", 1),) * 100}, 5.0),
    "open": ({"associations": (OPEN,)}, 30.0),
    "released_uniform": ({}, 2.0),
    "no_expectation": ({"uniform": False}, 5.0),
}


def test_every_row_has_its_test() -> None:
    assert [rule.name for rule in RULES] == list(ROWS)


@pytest.mark.parametrize("name", list(ROWS))
def test_a_row_waits_for_its_quiet_and_then_completes(name: str) -> None:
    changes, quiet_s = ROWS[name]
    done = verdict(facts(quiet_s, **changes))
    assert (done.state, done.rule, done.wait_s) == ("complete", name, None)
    if quiet_s:
        before = verdict(facts(quiet_s - 0.25, **changes))
        assert before.state in {"wait", "preliminary"}
        assert before.rule == name
        assert before.wait_s == pytest.approx(0.25)


def test_the_expected_count_completes_at_once_while_open() -> None:
    assert verdict(facts(0.0, expected=100, associations=(OPEN,))).state == "complete"
    assert verdict(facts(0.0, expected=101, associations=(OPEN,))).state == "wait"


@pytest.mark.parametrize(
    "changes",
    [{"expected": 99}, {"expected": 1, "count": 1, "uniform": False, "cover_mm": 0.0}],
    ids=["exceeded", "met by less than the cover"],
)
def test_a_count_that_is_not_that_of_the_series_ends_nothing(changes: dict[str, Any]) -> None:
    found = verdict(facts(0.0, associations=(OPEN,), **changes))
    assert (found.state, found.rule) == ("wait", "open")


def test_an_open_association_is_not_complete_after_the_usual_quiet() -> None:
    found = verdict(facts(10.0, associations=(OPEN,)))
    assert found.state == "preliminary"
    assert found.rule == "open"


def test_an_open_association_that_moved_on_counts_as_released() -> None:
    moved = AssociationFact("open", 100, moved_on=True)
    assert verdict(facts(2.0, associations=(moved,))).rule == "released_uniform"


def test_an_aborted_transfer_is_judged_after_30_s_with_its_limitation() -> None:
    found = verdict(facts(30.0, associations=(ABORTED,), uniform=False, cover_mm=40))
    assert found.state == "complete"
    assert [r.code for r in found.limitations] == [Code.TRANSFER_ABORTED]


def test_a_retry_that_makes_an_abort_good_is_an_ordinary_release() -> None:
    again = verdict(facts(2.0, associations=(ABORTED, RELEASED)))
    assert (again.state, again.rule, again.limitations) == ("complete", "released_uniform", ())
    holes = verdict(facts(2.0, associations=(ABORTED, RELEASED), uniform=False))
    assert (holes.state, holes.rule) == ("wait", "aborted")


def test_fewer_images_than_announced_is_a_limitation() -> None:
    found = verdict(facts(2.0, expected=120))
    assert found.state == "complete"
    assert [r.code for r in found.limitations] == [Code.UNEXPECTED_COUNT]
    assert "100 images came of 120" in found.limitations[0].text


def test_too_short_a_cover_waits_for_the_longer_quiet() -> None:
    found = verdict(facts(2.0, cover_mm=100.0))
    assert (found.state, found.rule) == ("wait", "no_expectation")
    assert found.wait_s == pytest.approx(3.0)


def test_lungs_that_touch_the_end_are_not_covered_yet() -> None:
    assert verdict(facts(2.0, covered=False)).state == "wait"
    assert verdict(facts(2.0, covered=True)).state == "complete"
    assert verdict(facts(5.0, covered=False)).state == "complete"


def test_a_release_is_a_plausible_end_at_once() -> None:
    found = verdict(facts(0.0))
    assert found.state == "preliminary"
    assert found.wait_s == pytest.approx(2.0)


def test_a_short_quiet_is_a_plausible_end_while_open() -> None:
    assert verdict(facts(0.1, associations=(OPEN,))).state == "wait"
    assert verdict(facts(0.1, associations=(OPEN,))).wait_s == pytest.approx(0.2)
    assert verdict(facts(0.3, associations=(OPEN,))).state == "preliminary"


def test_one_association_a_slice_is_no_plausible_end_at_each_release() -> None:
    singles = (AssociationFact("released", 1),) * 100
    assert verdict(facts(0.1, associations=singles)).state == "wait"
    assert verdict(facts(0.4, associations=singles)).state == "preliminary"


def test_nothing_is_preliminary_while_announced_images_are_on_their_way() -> None:
    assert verdict(facts(3.0, expected=300, associations=(OPEN,))).state == "wait"


def test_a_series_without_associations_waits_for_quiet() -> None:
    assert verdict(facts(0.1, associations=())).state == "wait"
    assert verdict(facts(2.0, associations=())).state == "complete"


def test_a_series_that_never_ends_is_judged_after_an_hour() -> None:
    found = verdict(facts(1.0, first=-2600.0, associations=(OPEN,)))
    assert (found.state, found.rule) == ("give_up", "too_long")
    almost = verdict(facts(1.0, first=-2595.0, associations=(OPEN,)))
    assert almost.wait_s is not None
    assert almost.wait_s <= 5.0


def test_the_quiet_times_are_settings() -> None:
    slow = Quiet(released_s=4.0, setting_s=9.0)
    assert verdict(facts(2.0), slow).state == "preliminary"
    assert verdict(facts(4.0), slow).state == "complete"
    assert verdict(facts(8.0, uniform=False), slow).wait_s == pytest.approx(1.0)


association = st.builds(
    AssociationFact,
    state=st.sampled_from(["open", "released", "aborted"]),
    instances=st.integers(0, 200),
    moved_on=st.booleans(),
)


@given(
    quiet_s=st.floats(0, 100),
    associations=st.lists(association, max_size=4).map(tuple),
    expected=st.none() | st.integers(1, 300),
    uniform=st.booleans(),
    cover_mm=st.floats(0, 400),
    covered=st.none() | st.booleans(),
)
def test_asking_again_when_told_always_ends(quiet_s: float, **changes: Any) -> None:
    now = facts(quiet_s, **changes)
    for _ in range(6):
        found = verdict(now)
        assert found == verdict(now)
        if found.state in {"complete", "give_up"}:
            assert found.wait_s is None
            return
        assert found.wait_s is not None
        assert found.wait_s > 0
        now = replace(now, now=now.now + found.wait_s + 1e-6)
    pytest.fail("it waits for ever")


def test_a_short_history_keeps_the_setting() -> None:
    assert learned_quiet([0.01] * 49) == 5.0
    assert learned_quiet([float("nan")] * 100, setting_s=7.0) == 7.0


def test_a_steady_sender_is_quiet_sooner() -> None:
    assert learned_quiet([0.02] * 400) == 1.0
    assert learned_quiet([0.6] * 400) == pytest.approx(1.8)


def test_a_pause_that_was_seen_is_never_taken_for_the_end() -> None:
    assert learned_quiet([0.02] * 400 + [2.0]) == pytest.approx(3.0)


def test_the_setting_is_the_longest_quiet() -> None:
    assert learned_quiet([4.0] * 400) == 5.0
    assert learned_quiet([4.0] * 400, setting_s=20.0) == pytest.approx(12.0)
