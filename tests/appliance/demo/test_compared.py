"""The table of a comparison, and what of it is not as the truth is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from appliance.comparison import Change, Comparison, Followed
from appliance.demo import compared
from appliance.phantom.chest import Nodule
from appliance.phantom.follow_up import Followed as Truth
from rigs.followed import comparison, matched, report

LARGER = Change(verdict="larger", decided_by="volume", difference_percent=102.0, limit_percent=25)
WITHIN = Change(verdict="within_error", decided_by="volume", difference_percent=4.0)
UP = 30.0


def truth(x: float, then: float | None, now: float | None) -> Truth:
    places = (x, 0.0, 0.0), (x, 0.0, UP)
    drawn = [
        None if size is None else Nodule(at, size, "solid", 30.0)
        for at, size in zip(places, (then, now), strict=True)
    ]
    return Truth(drawn[0], drawn[1], *places)


TRUTHS = (
    truth(10.0, 8.0, 8.0),
    truth(40.0, 8.0, 10.1),
    truth(70.0, None, 8.0),
    truth(-40.0, 8.0, None),
)
PRIOR = report("1.1", (10.0, 0.0, 0.0), (41.0, 0.0, 0.0), (-40.0, 1.0, 0.0))
CURRENT = report("1.2", (10.0, 0.0, UP), (40.0, 0.0, UP), (70.0, 0.0, UP + 2))
EQUAL, GROWN = matched(1, 1, WITHIN), matched(2, 2, LARGER)
NEW = Followed(finding=3, state="new")
GONE = Followed(prior_finding=3, state="gone")
RIGHT = (EQUAL, GROWN, NEW, GONE)


def lacking(*findings: Followed) -> list[str]:
    said = comparison(PRIOR, CURRENT, *findings)
    return compared.lacking(compared.rows(TRUTHS, said, PRIOR, CURRENT))


def test_what_is_as_the_truth_is_lacks_nothing() -> None:
    assert lacking(*RIGHT) == []


@pytest.mark.parametrize(
    ("instead", "of", "said"),
    [
        (Followed(finding=1, state="new"), EQUAL, "called new"),
        (matched(1, 1, LARGER), EQUAL, "called larger"),
        (matched(1, 2, WITHIN), EQUAL, "taken for finding 2 of then, not 1"),
        (matched(2, 2, WITHIN), GROWN, "called within_error"),
        (matched(2, 2), GROWN, "its growth is not said"),
        (Followed(finding=2, state="not_comparable", why=("ambiguous",)), GROWN, "ambiguous"),
        (matched(3, 3), NEW, "called matched"),
        (Followed(prior_finding=3, state="not_comparable", why=("too_small",)), GONE, "is gone"),
    ],
)
def test_each_untruth_is_said(instead: Followed, of: Followed, said: str) -> None:
    wrong = lacking(*(instead if one is of else one for one in RIGHT))
    assert any(said in sentence for sentence in wrong)


@pytest.mark.parametrize("left_out", RIGHT)
def test_silence_about_a_nodule_that_was_found_is_an_untruth(left_out: Followed) -> None:
    wrong = lacking(*(one for one in RIGHT if one is not left_out))
    assert any("nothing is said of it" in sentence for sentence in wrong)


def test_a_course_that_no_nodule_showed_is_lacking() -> None:
    said = comparison(PRIOR, CURRENT, EQUAL, GROWN, NEW)
    found = compared.rows(TRUTHS[:3], said, PRIOR, CURRENT)
    assert compared.lacking(found) == ["no nodule was told that is gone"]


def test_a_nodule_that_a_report_missed_may_not_be_compared_but_is_not_new() -> None:
    missed = report("1.1", (41.0, 0.0, 0.0), (-40.0, 1.0, 0.0))

    def of_it(said: Followed) -> str | None:
        row, *_ = compared.rows(TRUTHS[:1], comparison(missed, CURRENT, said), missed, CURRENT)
        return row.wrong

    pixels = Followed(finding=1, state="not_comparable", why=("seen_in_pixels",))
    below = Followed(finding=1, state="matched", seen_below_threshold=True, change=WITHIN)
    assert of_it(pixels) is None
    assert of_it(below) is None
    assert of_it(Followed(finding=1, state="new")) == "called new"


def test_a_finding_where_no_nodule_is_has_a_row_and_nothing_is_asked_of_it() -> None:
    current = report("1.2", *(f.place_lps_mm for f in CURRENT.findings), (-90.0, 0.0, UP))
    stray = Followed(finding=4, state="not_comparable", why=("seen_in_pixels",))
    found = compared.rows(TRUTHS, comparison(PRIOR, current, *RIGHT, stray), PRIOR, current)
    assert found[-1].truth is None
    assert found[-1].said == stray
    assert compared.lacking(found) == []


def test_the_table_has_state_sizes_change_and_truth_of_each() -> None:
    said = comparison(PRIOR, CURRENT, *RIGHT)
    console = Console(file=io.StringIO(), width=160)
    compared.show(compared.rows(TRUTHS, said, PRIOR, CURRENT), said, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "364 days apart",
        "larger +102 % (25 %)",
        "within error +4 %",
        "larger: 8.0 -> 10.1 mm solid",
        "equal: 8.0 mm solid",
        "new: 8.0 mm solid",
        "gone: 8.0 mm solid",
    ):
        assert part in text, part


@pytest.mark.parametrize("code", ["images_disagree", "identity_unsure"])
def test_a_stranger_who_was_not_compared_for_what_the_images_show_is_as_it_should_be(
    code: str,
) -> None:
    assert compared.stranger_compared([not_compared(code)]) == []


def test_a_stranger_who_was_not_compared_for_another_reason_is_an_untruth() -> None:
    (wrong,) = compared.stranger_compared([not_compared("no_prior")])
    assert "for another reason: no_prior" in wrong


def test_a_stranger_who_was_compared_or_of_whom_nothing_is_said_is_an_untruth() -> None:
    compare: Comparison = comparison(PRIOR, CURRENT, *RIGHT)
    assert compared.stranger_compared([compare]) == ["two people were compared"]
    assert compared.stranger_compared([]) == ["nothing was said of comparing the stranger"]


def not_compared(code: str, text: str = "so it is") -> Comparison:
    """Of these two, for this reason."""
    return Comparison.model_validate(
        {
            **comparison(PRIOR, CURRENT).model_dump(by_alias=True),
            "status": "not_compared",
            "reasons": [{"code": code, "text": text}],
        }
    )


def test_the_remedy_of_what_was_not_compared_is_whole() -> None:
    said = not_compared("unreadable", "add [[priors.query]]")
    console = Console(file=io.StringIO(), width=160)
    compared.not_compared(said, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "not compared: unreadable add [[priors.query]]" in text
