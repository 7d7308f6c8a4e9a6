"""What was said of lesions whose course is known: a tiny pair, and every way to be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from appliance.comparison import Change, Followed, Interval
from appliance.records import Vector
from appliance.report import Report
from rigs.two_exams import Ball, Exam, entry
from training.errors import DataError
from training.judge import breath, followed
from training.judge.aims import Judged, Lesion
from training.judge.twice import Course, Two
from training.read.volume import F64, Volume

LUNGS = np.array([[-80.0, -60.0, -60.0], [80.0, 60.0, 60.0]])
THEN: tuple[Vector, ...] = ((-45.0, 0.0, 0.0), (45.0, 10.0, 0.0), (40.0, -10.0, 30.0))
DAYS = 365


@pytest.fixture(scope="module")
def way() -> breath.Breath:
    turn, shift = (2.0, -1.0, 3.0), (4.0, 0.0, -9.0)
    return breath.Breath(LUNGS[0], LUNGS[1], np.zeros(3), 12.0, turn, shift, 5)


@pytest.fixture(scope="module")
def two(way: breath.Breath) -> Two:
    """A lesion that doubles, one that appears and one that vanishes."""
    volume = Volume("tiny", np.zeros((2, 2, 2), np.float32), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    mask = np.ones((2, 2, 2), np.bool_)
    empty = breath.Exam(volume, mask, mask)
    then, now = np.array(THEN), way.to_current(np.array(THEN))
    courses = (
        Course("solid", "doubles", 10.0, 10.0 * 2 ** (1 / 3), then[0], now[0]),
        Course("solid", "appears", None, 8.0, then[1], now[1]),
        Course("solid", "vanishes", 8.0, None, then[2], now[2]),
    )
    return Two(empty, empty, courses, way, moved_is_prior=False)


def report(places: Sequence[F64 | Vector]) -> Report:
    balls = [Ball((float(x), float(y), float(z))) for x, y, z in places]
    return entry(Exam(balls)).report


def row(two: Two, now: int | None, then: int | None, **more: object) -> Followed:
    """Of findings whose numbers are those of lesions, counted from 1."""
    at_now = None if now is None else tuple(two.courses[now - 1].now_lps.tolist())
    at_then = None if then is None else tuple(two.courses[then - 1].then_lps.tolist())
    said = {
        "finding": now,
        "prior_finding": then,
        "state": "matched",
        "center_lps_mm": at_now,
        "prior_center_lps_mm": at_then,
        **more,
    }
    return Followed.model_validate(said)


def along_x(mm: float) -> F64:
    return np.array([mm, 0.0, 0.0])


def judged(two: Two, rows: Sequence[Followed]) -> tuple[Lesion, ...]:
    """Of reports that list all three lesions in their order, though one of them is not there."""
    prior = report([course.then_lps for course in two.courses])
    current = report([course.now_lps for course in two.courses])
    return followed.lesions(two, prior, current, rows, DAYS)


def change(low: float, high: float) -> Change:
    rate = Interval(value=(low + high) / 2, low=low, high=high)
    return Change(verdict="larger", difference_percent=100.0, rate_per_year=rate)


def test_a_match_of_both_ends_of_one_lesion_is_right_and_has_its_change(two: Two) -> None:
    first, *_ = judged(two, [row(two, 1, 1, change=change(0.5, 0.9))])
    assert (first.finding, first.prior_finding, first.states) == (1, 1, ("matched",))
    assert first.right
    assert not first.wrong
    assert (first.verdict, first.rate) == ("larger", (0.5, 0.9))
    assert first.true_rate == pytest.approx(np.log(2) * 365.25 / 365)


def test_a_match_with_another_lesion_is_wrong_for_both(two: Two) -> None:
    first, second, third = judged(two, [row(two, 1, 3), row(two, 2, None, state="new")])
    assert (first.wrong, first.right) == (True, False)
    assert (third.wrong, third.right) == (True, False)
    assert not second.wrong


def test_a_match_of_what_is_in_one_exam_alone_is_wrong(two: Two) -> None:
    _, second, _ = judged(two, [row(two, 2, 2)])
    assert second.wrong


def test_a_match_with_a_candidate_at_the_place_is_right(two: Two) -> None:
    at = tuple((two.courses[0].then_lps + along_x(2.0)).tolist())
    one = row(two, 1, None, seen_below_threshold=True, prior_center_lps_mm=at)
    assert judged(two, [one])[0].right
    far = tuple((two.courses[0].then_lps + along_x(9.0)).tolist())
    assert judged(two, [one.model_copy(update={"prior_center_lps_mm": far})])[0].wrong


def test_what_cannot_be_compared_is_neither_right_nor_wrong(two: Two) -> None:
    doubt = row(two, 1, 1, state="not_comparable", why=("ambiguous",))
    first, *_ = judged(two, [doubt])
    assert (first.right, first.wrong, first.why) == (False, False, ("ambiguous",))


def test_a_lesion_that_is_there_twice_and_is_called_new_and_gone_is_said_so(two: Two) -> None:
    first, *_ = judged(two, [row(two, 1, None, state="new"), row(two, None, 1, state="gone")])
    assert first.states == ("new", "gone")
    assert not first.right


def test_a_lesion_is_not_listed_where_it_is_not(two: Two) -> None:
    _, second, third = judged(two, [])
    assert (second.prior_finding, second.finding) == (None, 2)
    assert (third.prior_finding, third.finding) == (3, None)


def test_what_else_is_found_is_the_chests_own_and_there_twice(two: Two) -> None:
    at = np.array([-40.0, -30.0, -20.0])
    here = two.breath.to_current(at[None])[0]
    prior, current = report([at]), report([here + along_x(1.0), here + along_x(15.0)])
    found = followed.lesions(
        two, prior, current, [row(two, 1, None, state="new"), row(two, 2, None, state="new")], DAYS
    )
    own = [one for one in found if one.own]
    assert [(one.prior_finding, one.finding, one.states) for one in own] == [
        (1, 1, ("new",)),
        (None, 2, ("new",)),
    ]


def test_what_lies_at_the_rim_of_a_lesion_is_left_out(two: Two) -> None:
    beside = two.courses[0].then_lps + along_x(9.0)
    assert not [o for o in followed.lesions(two, report([beside]), report([]), [], DAYS) if o.own]


def test_pairs_are_read_back_and_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    assert followed.read(file) == []
    pair = Judged(ct="A", seed=3, said="compared", slices_mm=(1, 2), kernels=("SOFT", "SHARP"))
    file.write_text(pair.model_dump_json() + "\n")
    assert followed.read(file) == [pair]
    file.write_text("{}\n")
    with pytest.raises(DataError, match="is no pair"):
        followed.read(file)
