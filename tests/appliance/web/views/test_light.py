"""How a series and a study stand, in a word and a sign."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.reasons import Code
from appliance.report import Report, Stage, Status
from appliance.store.rows import Received
from appliance.web.views import light
from appliance.web.views.phrase import Phrase

Make = Callable[..., Received]
Says = Callable[..., Report]


def test_what_still_arrives_is_never_green_whatever_was_said_of_it(
    received: Make, make_report: Says
) -> None:
    arriving = received("open", 42)
    for reports in ([], [make_report()], [make_report(stage=Stage.PRELIMINARY)]):
        assert light.of_series(arriving, reports).sign == "wait"
        assert light.of_study([(arriving, reports)]).sign == "wait"
    assert light.of_study([(arriving, [])]).word == Phrase("status.arriving", {"images": 42})
    early = light.of_series(arriving, [make_report(stage=Stage.PRELIMINARY)])
    assert early.word == Phrase("status.preliminary", {"findings": 1})
    waits = light.of_study([(received("analysed"), [make_report()]), (received("complete"), [])])
    assert waits.word == Phrase("status.analysing")


def test_an_analysis_in_full_is_green_with_or_without_findings(
    received: Make, make_report: Says
) -> None:
    found = make_report()
    assert light.of_series(received(), [found]) == light.Light(
        "ok", Phrase("status.found", {"findings": 1})
    )
    nothing = found.model_copy(update={"findings": ()})
    assert light.of_series(received(), [nothing]) == light.Light("ok", Phrase("status.nothing"))
    two = light.of_study([(received(), [found]), (received(series="1.2.4"), [found])])
    assert two.word == Phrase("status.found_in_several", {"findings": 2, "series": 2})


def test_a_limit_is_amber_and_a_word_about_counting_is_none(received: Make, limited: Says) -> None:
    assert light.of_series(received(), [limited()]).sign == "look"
    none = limited(findings=())
    assert light.of_series(received(), [none]).word == Phrase("status.nothing_limited")
    assert light.of_series(received(), [limited(Code.ALSO_SHOWN_IN)]).sign == "ok"


@pytest.mark.parametrize(("state", "word"), [("refused", "not_analysed"), ("failed", "failed")])
def test_what_was_not_analysed_is_red_and_has_no_number_of_findings(
    received: Make, refused: Says, state: str, word: str
) -> None:
    report = refused(status=Status.FAILED if state == "failed" else Status.NOT_ANALYSED)
    for found in (
        light.of_series(received(state), [report]),
        light.of_study([(received(state), [report]), (received("set_aside"), [])]),
    ):
        assert found == light.Light("stop", Phrase(f"status.{word}"))


def test_a_study_of_which_a_part_was_refused_is_amber_and_says_how_much(
    received: Make, make_report: Says, refused: Says
) -> None:
    found = light.of_study(
        [(received(), [make_report()]), (received("refused", series="1.2.4"), [refused()])]
    )
    assert found == light.Light("look", Phrase("status.in_part", {"findings": 1, "series": 1}))


def test_a_bundle_that_refused_what_another_analysed_makes_the_series_amber(
    received: Make, make_report: Says, refused: Says
) -> None:
    assert light.of_series(received(), [make_report(), refused()]).sign == "look"


def test_what_was_rightly_set_aside_is_quiet_and_asks_for_nothing(
    received: Make, refused: Says
) -> None:
    aside = refused(Code.LOCALIZER)
    assert light.of_study([(received("set_aside"), [aside])]).sign == "quiet"
    assert light.to_do([aside]) == ()


def test_what_to_do_is_said_once_for_each_reason(refused: Says, limited: Says) -> None:
    said = light.to_do([refused(), limited(), limited()])
    assert said == (Phrase("reasons.remedy.gantry_tilt"), Phrase("reasons.remedy.gap_filled"))
