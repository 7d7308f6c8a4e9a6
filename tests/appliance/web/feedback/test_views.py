"""What a page shows of the feedback on one report."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

from appliance.report import Coverage, Report, Scored, Scores, SeriesRef, Status
from appliance.results.feedback import Feedback, PlacePx
from appliance.store.journal.feedback import Comment
from appliance.web.feedback import views
from appliance.web.site import Visitor
from rigs.feedback import act

ME = Visitor(
    role="radiologist",
    reader="ab12",
    session="0",
    account="eve",
    names=False,
    csrf="c",
    language="en",
    theme="dark",
)
SCORES = Scores(
    threshold=0.5,
    candidates=(
        Scored(score=0.9, center_lps_mm=(0.0, 0.0, 0.0)),
        Scored(score=0.3, center_lps_mm=(20.0, 0.0, 0.0)),
    ),
)


@pytest.fixture
def report(make_report: Callable[..., Report]) -> Report:
    made = make_report()
    return made.model_copy(
        update={
            "series": SeriesRef(slices=10, spacing_mm=(1.0, 0.7, 0.7)),
            "coverage": Coverage(z_mm=(-100.0, 50.0), fov_mm=(-150.0, -150.0, 150.0, 150.0)),
        }
    )


def seen(report: Report, *acts: Feedback, who: Visitor = ME) -> views.Shown:
    return views.of_report(report, acts, (), who=who, where="study")


def test_a_finding_that_nobody_judged_has_no_verdict(report: Report) -> None:
    shown = seen(report)
    (finding,) = shown.findings
    assert (finding.said, finding.acts, finding.contradicted) == (None, (), False)
    assert (shown.judged, shown.placed) == (0, "patient")


def test_two_tabs_that_contradict_each_other_are_both_shown_and_the_last_counts(
    report: Report,
) -> None:
    accept, reject = act(report), act(report, "reject", reader="cd34", role="technologist")
    (finding,) = seen(report, accept, reject).findings
    assert finding.said
    assert (finding.said.verdict, finding.said.mine) == ("reject", False)
    assert finding.contradicted
    assert [(a.verdict, a.mine, a.counts) for a in finding.acts] == [
        ("accept", True, False),
        ("reject", False, True),
    ]


def test_an_act_that_was_taken_back_contradicts_nothing(report: Report) -> None:
    accept, reject = act(report), act(report, "reject")
    undo = act(report, "undo", finding=1, undoes=reject.uid)
    (finding,) = seen(report, accept, reject, undo).findings
    assert finding.said
    assert finding.said.uid == accept.uid
    assert not finding.contradicted
    assert [(a.verdict, a.taken_back) for a in finding.acts] == [
        ("accept", False),
        ("reject", True),
        ("undo", False),
    ]


def test_what_was_missed_is_shown_until_it_is_taken_back(report: Report) -> None:
    missed = act(report, "missed")
    (shown,) = seen(report, missed).missed
    assert (shown.center_lps_mm, shown.size_mm) == ((10.0, -20.0, 30.5), 6.0)
    assert seen(report, missed, act(report, "undo", undoes=missed.uid)).missed == ()


def test_every_form_has_a_name_of_its_own_for_its_act(report: Report) -> None:
    shown = seen(report, act(report, "missed"))
    forms = [*(f.form for f in shown.findings), *(m.form for m in shown.missed), shown.missed_form]
    assert len({*forms}) == len(forms) == 3


def test_comments_say_whose_they_are(report: Report) -> None:
    said = (Comment(0.0, 1, "radiologist", "ab12", "a"), Comment(0.0, None, "display", "0", "b"))
    shown = views.of_report(report, (), said, who=ME, where="report")
    assert [(c.mine, c.finding, c.text) for c in shown.comments] == [
        (True, 1, "a"),
        (False, None, "b"),
    ]


@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_a_radiograph_is_marked_in_pixels_of_the_image_as_it_was_sent(
    report: Report, modality: str
) -> None:
    flat = report.model_copy(update={"series": SeriesRef(modality=modality, slices=1)})
    pixel = PlacePx(image=0, column=12.5, row=40)
    marked = act(flat, "missed", center_lps_mm=None, place_px=pixel, size_mm=20)
    shown = seen(flat, marked)
    assert shown.placed == "image"
    assert max(shown.sizes_mm) > max(views.SIZES_MM), "a consolidation is larger than a nodule"
    assert [(one.place_px, one.size_mm) for one in shown.missed] == [(pixel, 20)]


def test_what_has_neither_millimetres_nor_is_a_radiograph_has_no_place_to_mark(
    report: Report,
) -> None:
    assert seen(report).placed == "patient"
    assert seen(report.model_copy(update={"series": SeriesRef(slices=1)})).placed is None
    assert seen(report.model_copy(update={"status": Status.FAILED})).placed is None


def test_a_mark_on_a_radiograph_has_the_score_of_the_image() -> None:
    of_one = Scores(threshold=0.5, candidates=(Scored(score=0.3),))
    assert views.score_at(None, 20, of_one) == 0.3
    for several in ((0.4, 0.3), (0.6,), ()):
        scores = Scores(threshold=0.5, candidates=tuple(Scored(score=s) for s in several))
        assert views.score_at(None, 20, scores) is None


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        ((0.0, 0.0, 0.0), True),
        ((0.0, 0.0, 79.0), True),
        ((0.0, 0.0, 81.0), False),
        ((0.0, 0.0, -131.0), False),
        ((181.0, 0.0, 0.0), False),
        ((0.0, -181.0, 0.0), False),
    ],
)
def test_a_place_far_outside_the_images_is_none(
    report: Report, place: tuple[float, float, float], inside: bool
) -> None:
    assert views.is_inside(report, place) is inside
    unknown = report.model_copy(update={"coverage": Coverage()})
    assert views.is_inside(unknown, place), "of an earlier report nothing is known"


def test_a_finding_of_another_network_is_on_no_curve(report: Report) -> None:
    (finding,) = report.findings
    assert views.score_of(finding, SCORES) == finding.score == 0.9
    assert views.score_of(finding.model_copy(update={"threshold": 0.4}), SCORES) is None
    assert views.score_of(finding, None) is None
    assert views.score_at((21.0, 0.0, 0.0), 4.0, SCORES) == 0.3
    assert views.score_at((21.0, 0.0, 0.0), 4.0, None) is None


def test_a_comment_keeps_its_lines_and_loses_what_turns_the_writing() -> None:
    assert views.plain(" a\r\nb\tc\x00\u202e\u2066\x1b[0m \n") == "a\nbc[0m"


def test_the_display_is_another_reader(report: Report) -> None:
    other = replace(ME, reader="0f", role="display")
    (finding,) = seen(report, act(report), who=other).findings
    assert finding.said
    assert not finding.said.mine
    assert finding.form != uuid.UUID(int=0)
