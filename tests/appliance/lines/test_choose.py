"""Which bundles analyse a series, and which series of a study stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from appliance import line
from appliance.backend.protocol import Backend
from appliance.bundle.trust import Bundle
from appliance.lines import choose
from appliance.lines.kind import Outline
from appliance.reasons import Code
from appliance.records import Header
from appliance.report import Reason, Report, Status
from appliance.series.standing import SeriesSummary, Standing, rank, standing
from rigs.reports import make_report

__all__ = ["make_report"]

CT = Header("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1", "1.2", "1.2.3", modality="CT")


def test_the_bundles_that_accept_are_chosen_in_their_order(tiny: Bundle, second: Bundle) -> None:
    chosen = choose.bundles_for(replace(CT, body_part="CHEST"), [second, tiny])
    assert (chosen.bundles, chosen.reasons) == ((second, tiny), ())


def test_where_none_accepts_it_is_said_why(tiny: Bundle) -> None:
    chosen = choose.bundles_for(replace(CT, modality="MR"), [tiny])
    assert chosen.bundles == ()
    assert [reason.code for reason in chosen.reasons] == [Code.MODALITY, Code.NO_BUNDLE]


def test_what_is_set_aside_by_name_or_not_readable_is_for_no_bundle(tiny: Bundle) -> None:
    """Its own reasons say why, so nothing is said of bundles."""
    scout = replace(CT, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert choose.bundles_for(scout, [tiny]) == choose.Chosen()
    assert choose.bundles_for(None, [tiny]) == choose.Chosen()


Summaries = tuple[SeriesSummary, SeriesSummary]


@pytest.fixture
def thin_and_thick(tiny: Bundle, tiny_backend: Backend, dicom: Any) -> Summaries:
    found = []
    for number, step in enumerate((4.5, 5.0)):
        uid = f"1.2.3.{number}"
        fold = line.begin([tiny])
        for file in dicom.all(dicom.chest(step_mm=step, study_uid="1.2.3", series_uid=uid)):
            fold = line.add(fold, file)
        result = line.finish(fold, tiny, tiny_backend)
        one = choose.summary(fold.shares[0].outline, result)
        assert one is not None
        found.append(one)
    return found[0], found[1]


def test_the_thinner_series_of_an_acquisition_stands(
    thin_and_thick: Summaries, tiny: Bundle
) -> None:
    thin, thick = thin_and_thick
    for order in ([thin, thick], [thick, thin]):
        found = standing(order, tiny.manifest.accepts)
        assert (found[thin.key], found[thick.key]) == (Standing(), Standing(by=thin))


@pytest.mark.parametrize(
    "image_type", [["ORIGINAL", "SECONDARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL"]]
)
def test_a_secondary_or_derived_series_loses_to_an_original_one(
    thin_and_thick: Summaries,
    tiny: Bundle,
    tiny_backend: Backend,
    dicom: Any,
    image_type: list[str],
) -> None:
    _, thick = thin_and_thick
    fold = line.begin([tiny])
    named = dicom.chest(step_mm=4.5, study_uid="1.2.3", series_uid="1.2.3.0", ImageType=image_type)
    for file in dicom.all(named):
        fold = line.add(fold, file)
    result = line.finish(fold, tiny, tiny_backend)
    thin = choose.summary(fold.shares[0].outline, result)
    assert thin is not None
    assert rank(thick, tiny.manifest.accepts) < rank(thin, tiny.manifest.accepts)
    assert standing([thin, thick], tiny.manifest.accepts)[thick.key].by is None


def test_series_of_two_acquisitions_both_stand_and_name_nothing(
    thin_and_thick: Summaries, tiny: Bundle
) -> None:
    thin, thick = thin_and_thick
    later = thick.model_copy(update={"acquisition_number": 7})
    found = standing([thin, later], tiny.manifest.accepts)
    assert list(found.values()) == [Standing(), Standing()]


def test_a_summary_holds_what_was_found_and_survives_json(thin_and_thick: Summaries) -> None:
    thin, _ = thin_and_thick
    assert thin.coverage.sides == "both"
    assert thin.coverage.lungs_z_mm is not None
    assert thin.volume is not None
    assert thin.places
    assert all(thin.volume.holds(place) for place in thin.places)
    assert SeriesSummary.model_validate_json(thin.model_dump_json()) == thin


def test_without_a_result_a_series_can_be_ranked_and_replaces_nothing(
    thin_and_thick: Summaries, tiny: Bundle, dicom: Any
) -> None:
    _, thick = thin_and_thick
    fold = line.begin([tiny])
    for file in dicom.all(dicom.chest(step_mm=4.5, study_uid="1.2.3", series_uid="1.2.3.0")):
        fold = line.add(fold, file)
    one = choose.summary(fold.shares[0].outline)
    assert one is not None
    accepts = tiny.manifest.accepts
    assert rank(one, accepts) < rank(thick, accepts)
    assert standing([one, thick], accepts)[thick.key].by is None


def test_what_could_not_be_put_in_order_has_no_rivals() -> None:
    assert choose.summary(Outline()) is None


# What the report says


def test_a_beaten_report_is_not_analysed_and_keeps_what_it_says_of_its_images(
    thin_and_thick: Summaries, make_report: Callable[..., Report]
) -> None:
    thin, _ = thin_and_thick
    limits = tuple(Reason(code=c, text="x") for c in (Code.MADE_UIDS, Code.LOSSY))
    report = make_report().model_copy(update={"limitations": limits})
    said = choose.restated(report, Standing(by=thin), str)
    assert (said.status, said.findings, said.backend) == (Status.NOT_ANALYSED, (), None)
    assert [reason.code for reason in said.reasons] == [Code.BETTER_SERIES]
    assert [reason.code for reason in said.limitations] == [Code.MADE_UIDS]
    assert Report.model_validate_json(said.to_json()) == said
    assert said.report_id == report.report_id


def test_a_report_that_stands_names_those_beside_it_anew_each_time(
    thin_and_thick: Summaries, make_report: Callable[..., Report]
) -> None:
    thin, thick = thin_and_thick
    own = Reason(code=Code.LOSSY, text="x")
    report = make_report().model_copy(update={"limitations": (own,)})
    named = {thin.key: "b-name", thick.key: "a-name"}.__getitem__
    said = choose.restated(report, Standing(beside=(thin, thick)), named)
    codes = [reason.code for reason in said.limitations]
    assert codes == [Code.ALSO_SHOWN_IN, Code.ALSO_SHOWN_IN, Code.LOSSY]
    assert "a-name" in said.limitations[0].text
    assert "b-name" in said.limitations[1].text
    assert choose.restated(said, Standing(), named) == report
    assert choose.own_words(said) == report
