"""One row for each finding of both exams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from appliance.lines.compare import compare
from appliance.prior.follow import Row
from rigs.two_exams import Ball, Exam, bundles, entry, laying

RIGHT, LEFT, LOW = (45.0, 0.0, 0.0), (-45.0, 10.0, 10.0), (42.0, -16.0, -28.0)
SHIFT = (3.0, -4.0, 6.0)


def rows(then: list[Ball], now: list[Ball], **more: object) -> tuple[Row, ...]:
    """What is said of the balls of two exams; `facts` and a registration's fields may be given."""
    facts = more.pop("facts", {})
    prior = Exam(then)
    current = Exam(now, shift=SHIFT, taken="20250101", facts=facts)
    return compare(
        entry(prior, "then"), entry(current, "now"), bundles(), laying(prior, current, **more)
    ).rows


def states(found: tuple[Row, ...]) -> list[tuple[int | None, int | None, str]]:
    said = [row.followed for row in found]
    return [(f.finding, f.prior_finding, f.state) for f in said]


def test_findings_of_today_come_first_and_those_that_are_gone_last():
    found = rows(
        [Ball(RIGHT, score=0.5), Ball(LOW, score=0.9)],
        [Ball(RIGHT, 11.0, score=0.7), Ball(LEFT, 9.0, score=0.8)],
    )
    assert states(found) == [(1, None, "new"), (2, 2, "matched"), (None, 1, "gone")]


def test_each_place_is_said_in_the_frame_of_its_own_exam():
    matched, gone = (row.followed for row in rows([Ball(RIGHT), Ball(LOW)], [Ball(RIGHT)]))
    assert matched.center_lps_mm == tuple(np.add(RIGHT, SHIFT))
    assert matched.prior_center_lps_mm == RIGHT
    assert gone.center_lps_mm == tuple(np.add(LOW, SHIFT))
    assert gone.prior_center_lps_mm == LOW
    assert matched.distance_mm == 0


def test_what_was_matched_has_its_sizes_and_its_change():
    (row,) = rows([Ball(RIGHT, 9.0)], [Ball(RIGHT, 12.0)])
    assert row.followed.then.mean_axis_mm < row.followed.now.mean_axis_mm
    assert row.followed.change.verdict == "larger"
    assert row.followed.change.rate_per_year is not None


def test_what_lay_under_the_threshold_then_is_matched_and_says_so():
    (row,) = rows([Ball(RIGHT, 9.0, score=0.3)], [Ball(RIGHT, 12.0)])
    said = row.followed
    assert (said.state, said.prior_finding, said.seen_below_threshold) == ("matched", None, True)
    assert said.change.verdict == "larger"


def test_what_lies_under_the_threshold_today_is_not_gone():
    (row,) = rows([Ball(RIGHT)], [Ball(RIGHT, 6.0, score=0.3)])
    said = row.followed
    assert (said.finding, said.prior_finding, said.state) == (None, 1, "matched")
    assert said.seen_below_threshold


def test_what_nobody_listed_then_is_not_new_where_the_pixels_show_it():
    (row,) = rows([Ball(RIGHT, 9.0, score=0.0)], [Ball(RIGHT, 12.0)])
    assert row.followed.state == "not_comparable"
    assert row.followed.why == ("seen_in_pixels",)


def test_a_candidate_alone_has_no_row():
    assert rows([Ball(RIGHT, score=0.3)], [Ball(RIGHT, score=0.3)]) == ()
    assert rows([Ball(RIGHT, score=0.3)], []) == ()


def test_two_that_merged_are_one_row_without_a_change():
    x, y, z = RIGHT
    (row,) = rows(
        [Ball((x - 4, y, z), 6.0), Ball((x + 4, y, z), 6.0, score=0.8)], [Ball(RIGHT, 15.0)]
    )
    assert row.followed.state == "matched"
    assert row.followed.merged_from == (1, 2)
    assert row.followed.change is None


def test_one_that_split_is_two_rows_that_name_each_other():
    x, y, z = RIGHT
    found = rows(
        [Ball(RIGHT, 15.0)], [Ball((x - 4, y, z), 6.0), Ball((x + 4, y, z), 6.0, score=0.8)]
    )
    assert states(found) == [(1, 1, "matched"), (2, 1, "matched")]
    assert all(row.followed.split_into == (1, 2) for row in found)
    assert all(row.followed.change is None for row in found)


def test_which_of_two_is_gone_is_not_said_where_the_registration_errs_by_half_their_distance():
    x, y, z = RIGHT
    pair = [Ball(RIGHT, 5.0), Ball((x + 8, y, z), 5.0, score=0.8)]
    said = [row.followed for row in rows(pair, pair[:1], error=(3.8, 0, 0))]
    assert [f.state for f in said] == ["not_comparable"] * 2
    assert all(f.why == ("ambiguous",) and f.change is None for f in said)
    clear = rows(pair, pair[:1], error=(1.0, 0, 0))
    assert states(clear) == [(1, 1, "matched"), (None, 2, "gone")]


def test_a_full_list_of_today_says_nothing_to_be_gone():
    (row,) = rows([Ball(RIGHT)], [], facts={"list_full": True})
    assert (row.followed.state, row.followed.why) == ("not_comparable", ("list_full",))


def test_a_weak_registration_still_matches_but_says_nothing_to_be_new():
    found = rows([Ball(RIGHT)], [Ball(RIGHT), Ball(LEFT, score=0.8)], weak=True)
    assert [row.followed.state for row in found] == ["matched", "not_comparable"]
    assert found[1].followed.why == ("registration_weak",)


def test_of_what_lies_outside_of_the_other_exam_no_place_in_it_is_said():
    prior = Exam([], covered_z=(-100.0, -20.0))
    current = Exam([Ball(RIGHT)], shift=SHIFT, taken="20250101")
    (row,) = compare(
        entry(prior, "then"), entry(current, "now"), bundles(), laying(prior, current)
    ).rows
    assert row.followed.why == ("outside_cover",)
    assert row.followed.prior_center_lps_mm is None


def test_each_row_shows_both_exams_at_its_place():
    new, gone = rows([Ball(LOW)], [Ball(RIGHT)])
    for dark, bright in ((new.then, new.now), (gone.now, gone.then)):
        assert dark.hu[24, 24, 24] < -700
        assert bright.hu[24, 24, 24] > -100


def test_a_finding_without_a_cube_is_matched_without_a_change():
    prior, current = Exam([Ball(RIGHT)]), Exam([Ball(RIGHT)], shift=SHIFT, taken="20250101")
    bare = replace(entry(prior, "then"), cubes=())
    (row,) = compare(bare, entry(current, "now"), bundles(), laying(prior, current)).rows
    assert row.followed.state == "matched"
    assert row.followed.change is None
    assert row.then.hu[24, 24, 24] > -100


def test_a_mass_that_became_a_nodule_is_matched_and_no_change_is_said():
    (row,) = rows([Ball(RIGHT, 24.0, kind="mass")], [Ball(RIGHT, 18.0)])
    assert row.followed.state == "matched"
    assert row.followed.change.verdict is None
