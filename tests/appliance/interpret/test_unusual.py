"""Images and findings beyond what is usual are a limitation, and never more than that."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import get_args

import pytest

from appliance.bundle.heads import Limit, UsualOutput, VolumeFigure
from appliance.interpret.unusual import WORDS, of_input, of_output
from appliance.reasons import Code
from appliance.report import Finding, Scored, Scores
from appliance.watching.quality import RadiographQuality, VolumeQuality

LIMITS = (
    Limit(figure="noise_hu", high=60),
    Limit(figure="tissue_hu", low=20, high=70),
    Limit(figure="lung_share", low=0.1),
)


def test_every_figure_that_a_limit_may_have_is_measured_and_has_its_words() -> None:
    assert set(get_args(VolumeFigure)) == set(WORDS)
    measured = {name for name in VolumeQuality.model_fields if name not in ("of", "contrast")}
    assert set(WORDS) == measured


@pytest.mark.parametrize(
    "volume",
    [
        VolumeQuality(),
        VolumeQuality(noise_hu=60, tissue_hu=20, lung_share=0.1),
        VolumeQuality(noise_hu=0, tissue_hu=70, metal_share=1.0, air_hu=-5000),
    ],
)
def test_what_is_not_measured_has_no_limit_or_lies_on_its_end_is_usual(
    volume: VolumeQuality,
) -> None:
    assert of_input([volume], LIMITS) == ()


def test_each_figure_beyond_its_limit_is_named_with_what_is_usual() -> None:
    (reason,) = of_input([VolumeQuality(noise_hu=95.5, tissue_hu=-3, lung_share=0.05)], LIMITS)
    assert (reason.code, reason.where) == (Code.UNUSUAL_INPUT, "series")
    assert reason.text == (
        "The images are unlike those that the findings were judged on: noise 95.5 HU, usual is 60 "
        "or less; soft tissue -3 HU, usual is 20 or more; share of the body that is lung 0.05, "
        "usual is 0.1 or more."
    )


def test_nothing_measured_no_limit_and_radiographs_say_nothing() -> None:
    odd = VolumeQuality(noise_hu=500)
    assert of_input([], LIMITS) == of_input([odd], ()) == ()
    assert of_input([RadiographQuality(mean=9e9)], LIMITS) == ()


def findings(count: int) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            id=n,
            tracking_uid=f"2.25.{uuid.uuid4().int}",
            kind="nodule",
            score=0.9,
            threshold=0.5,
            center_lps_mm=(0, 0, 0),
            box_lps_mm=(0, 0, 0, 1, 1, 1),
            key_image=0,
        )
        for n in range(1, count + 1)
    )


def scored(above: int, below: int) -> Scores:
    each: Sequence[float] = [0.5] * above + [0.4] * below
    return Scores(threshold=0.5, candidates=tuple(Scored(score=s) for s in each))


OUTPUT = UsualOutput(most_findings=8, most_share=0.4, share_of=10)


@pytest.mark.parametrize(
    ("found", "scores"),
    [(8, None), (0, scored(4, 6)), (0, scored(9, 0)), (8, scored(0, 0)), (0, scored(0, 30))],
)
def test_as_much_as_is_usual_and_few_candidates_say_nothing(
    found: int, scores: Scores | None
) -> None:
    assert of_output(findings(found), scores, OUTPUT, diffuse=False) == ()


def test_more_findings_or_a_larger_share_than_is_usual_are_said_with_the_figures() -> None:
    (many,) = of_output(findings(9), None, OUTPUT, diffuse=False)
    assert (many.code, many.text) == (
        Code.UNUSUAL_OUTPUT,
        "9 findings, usual are 8 or fewer.",
    )
    (both,) = of_output(findings(9), scored(5, 5), OUTPUT, diffuse=False)
    assert both.text == (
        "9 findings, usual are 8 or fewer; 5 of 10 candidates reach the threshold, usual are 40 % "
        "or fewer."
    )


def test_disease_explains_many_findings_and_no_limit_says_nothing() -> None:
    assert of_output(findings(30), scored(30, 0), OUTPUT, diffuse=True) == ()
    assert of_output(findings(30), scored(30, 0), None, diffuse=False) == ()
    assert of_output(findings(30), scored(30, 0), UsualOutput(), diffuse=False) == ()
