"""Findings of two exams are paired one to one, or it is said that nobody knows which is which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from appliance.prior.match import GATE_MM, Matching, Place, assigned, match


def found(*places: Sequence[float], radius: float = 4.0, first: int = 1) -> list[Place]:
    """Findings at these places, numbered from 1."""
    return [
        Place(number, (p[0], p[1], p[2]), radius) for number, p in enumerate(places, start=first)
    ]


def candidate(*place: float, radius: float = 2.0) -> Place:
    return Place(None, (place[0], place[1], place[2]), radius)


def pairs(matching: Matching) -> list[tuple[int, int]]:
    return [(p.current, p.prior) for p in matching.pairs]


def sure(matching: Matching) -> bool:
    return not matching.ambiguous_current and not matching.ambiguous_prior


def test_each_finding_goes_to_the_one_that_lies_where_it_would_lie():
    now = found((0, 0, 0), (50, 0, 0), (0, 60, 0))
    then = found((0, 61, 1), (1, 0, 0), (48, 2, 0))
    matching = match(now, then)
    assert pairs(matching) == [(0, 1), (1, 2), (2, 0)]
    assert matching.pairs[0].distance_mm == pytest.approx(1)
    assert sure(matching)


def test_beyond_the_gate_two_findings_are_two():
    assert pairs(match(found((0, 0, 0)), found((0, 0, GATE_MM + 0.1)))) == []
    assert pairs(match(found((0, 0, 0)), found((0, 0, GATE_MM - 0.1)))) == [(0, 0)]


def test_the_gate_of_a_mass_grows_with_its_radius():
    mass, small = found((0, 0, 0), radius=20.0), found((0, 0, 28.0), radius=5.0)
    assert pairs(match(mass, small)) == pairs(match(small, mass)) == [(0, 0)]
    assert pairs(match(mass, found((0, 0, 30.5)))) == []


def test_one_near_pair_counts_for_more_than_two_far_ones():
    now = found((0, 0, 0), (0, 0, 9))
    then = found((0, 0, 0.5), (0, 0, -9))
    assert pairs(match(now, then)) == [(0, 0)]


def test_of_two_of_equal_size_8_mm_apart_the_one_that_is_left_is_known():
    matching = match(found((1.5, 0, 0)), found((0, 0, 0), (8, 0, 0)))
    assert pairs(matching) == [(0, 0)]
    assert sure(matching)


def test_where_the_second_choice_is_nearly_as_good_nobody_knows_which_is_gone():
    matching = match(found((3.5, 0, 0)), found((0, 0, 0), (8, 0, 0), radius=2.0))
    assert matching.ambiguous_current == {0}
    assert matching.ambiguous_prior == {1}


def test_two_neighbours_that_moved_alike_tell_each_other_apart():
    matching = match(found((4, 0, 0), (12, 0, 0)), found((0, 0, 0), (8, 0, 0)))
    assert pairs(matching) == [(0, 0), (1, 1)]
    assert sure(matching)


def test_what_is_ambiguous_says_nothing_of_what_lies_far_away():
    now = found((4, 0, 0), (90, 0, 0), radius=2.0)
    matching = match(now, found((0, 0, 0), (8, 0, 0), (91, 0, 0), radius=2.0))
    assert matching.ambiguous_current == {0}
    assert (1, 2) in pairs(matching)


def test_a_finding_is_matched_with_a_candidate_that_lay_under_the_threshold():
    matching = match(found((0, 0, 0)), [candidate(2, 0, 0)])
    assert pairs(matching) == [(0, 0)]


def test_a_candidate_that_stands_a_little_away_is_not_taken_for_the_finding():
    assert pairs(match(found((0, 0, 0)), [candidate(8, 0, 0)])) == []


def test_a_candidate_of_both_exams_is_not_taken_by_a_new_finding_beside_it():
    now = [*found((0, 0, 0)), candidate(5, 0, 0)]
    matching = match(now, [candidate(5.5, 0, 0)])
    assert pairs(matching) == [(1, 0)]
    assert 0 not in matching.ambiguous_current


def test_two_that_lie_inside_the_one_of_today_have_merged():
    matching = match(found((0, 0, 0), radius=7), found((4, 0, 0), (-4, 0, 0), radius=3))
    assert len(matching.pairs) == 1
    (merged,) = matching.merged.values()
    assert {matching.pairs[0].prior, *merged} == {0, 1}
    assert sure(matching)


def test_one_that_holds_two_of_today_has_split():
    matching = match(found((4, 0, 0), (-4, 0, 0), radius=3), found((0, 0, 0), radius=7))
    (split,) = matching.split.values()
    assert {matching.pairs[0].current, *split} == {0, 1}
    assert sure(matching)


def test_one_that_was_always_beside_a_large_one_has_not_merged_with_it():
    now = found((0, 0, 0), (0, 0, 6), radius=7)
    matching = match(now, found((0, 0, 0), (0, 0, 6), radius=5))
    assert pairs(matching) == [(0, 0), (1, 1)]
    assert not matching.merged
    assert not matching.split


@pytest.mark.parametrize("sizes", [(0, 0), (0, 3), (3, 0)])
def test_where_one_exam_has_none_nothing_is_paired(sizes):
    now, then = (found(*[(0, 0, 20 * i) for i in range(n)]) for n in sizes)
    assert pairs(match(now, then)) == []


def test_the_order_of_the_lists_changes_nothing():
    rng = np.random.default_rng(3)
    here = rng.uniform(-60, 60, (32, 3))
    there = here + rng.normal(0, 2, here.shape)
    order = rng.permutation(32)
    straight = match(found(*here), found(*there))
    turned = match(found(*here), found(*there[order]))
    assert pairs(straight) == sorted((i, int(order[j])) for i, j in pairs(turned))


@pytest.mark.parametrize("seed", range(40))
def test_the_assignment_gains_as_much_as_any(seed):
    rng = np.random.default_rng(seed)
    gains = np.maximum(rng.normal(0, 5, rng.integers(1, 30, 2)), 0)
    if seed % 3 == 0:
        gains = np.round(gains)  # with many equals
    best = assigned(gains)
    assert len(set(best.values())) == len(best)
    assert all(gains[i, j] > 0 for i, j in best.items())
    rows, columns = linear_sum_assignment(gains, maximize=True)
    total = sum(gains[i, j] for i, j in best.items())
    assert total == pytest.approx(gains[rows, columns].sum())
