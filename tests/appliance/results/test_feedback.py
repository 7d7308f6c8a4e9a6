"""What counts of what readers said, and what a missed mark names."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.report import Report, Scored, Scores
from appliance.results.feedback import at_place, counting, of_report
from rigs.feedback import act


@pytest.fixture
def report(make_report: Callable[..., Report]) -> Report:
    return make_report()


def test_of_two_readers_who_contradict_each_other_the_later_one_counts(report: Report) -> None:
    accept, reject = act(report), act(report, "reject", reader="cd34")
    other = act(report, finding=2)
    assert counting([accept, reject, other]).findings == {1: reject, 2: other}


def test_what_was_taken_back_counts_no_more_and_what_was_before_counts_again(
    report: Report,
) -> None:
    accept, reject, missed = act(report), act(report, "reject"), act(report, "missed")
    rows = [accept, reject, missed, act(report, "undo", undoes=reject.uid, finding=1)]
    assert counting(rows).findings == {1: accept}
    assert counting(rows).missed == (missed,)
    rows += [act(report, "undo", undoes=row.uid) for row in (missed, accept)]
    assert counting(rows).findings == {}
    assert counting(rows).missed == ()
    assert counting(rows).taken_back == {accept.uid, reject.uid, missed.uid}


@pytest.mark.parametrize(
    ("verdict", "more"),
    [
        ("accept", {"finding": None}),
        ("accept", {"undoes": uuid.UUID(int=1)}),
        ("reject", {"size_mm": 4.0}),
        ("missed", {"size_mm": None}),
        ("missed", {"finding": 1}),
        ("missed", {"center_lps_mm": (float("nan"), 0.0, 0.0)}),
        ("missed", {"center_lps_mm": (0.0, 0.0, 9000.0)}),
        ("missed", {"size_mm": 5000.0}),
        ("undo", {}),
        ("accept", {"reader": "Dr. Who"}),
        ("accept", {"study": "1.2.840.113619"}),
    ],
)
def test_an_act_that_says_too_little_or_too_much_is_none(
    report: Report, verdict: str, more: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        act(report, verdict, **more)


SCORES = Scores(
    threshold=0.5,
    candidates=(
        Scored(score=0.9, center_lps_mm=(0.0, 0.0, 0.0)),
        Scored(score=0.4, center_lps_mm=(20.0, 0.0, 0.0)),
        Scored(score=0.3, center_lps_mm=(24.0, 0.0, 0.0)),
        Scored(score=0.1),
    ),
)


def test_the_scores_of_a_report_have_no_place() -> None:
    kept = of_report(SCORES, findings=1)
    assert (kept.threshold, kept.findings, kept.below) == (0.5, 1, (0.4, 0.3, 0.1))
    assert "center" not in kept.model_dump_json()


def test_a_missed_mark_names_the_nearest_candidate_below_the_threshold() -> None:
    assert at_place(SCORES, (23.0, 0.0, 0.0), 3.0) == 0.3
    assert at_place(SCORES, (20.0, 4.9, 0.0), 3.0) == 0.4
    assert at_place(SCORES, (20.0, 5.1, 0.0), 3.0) is None
    assert at_place(SCORES, (20.0, 5.1, 0.0), 12.0) == 0.4
    assert at_place(SCORES, (0.0, 0.0, 0.0), 30.0) is None, "what was reported was not missed"
