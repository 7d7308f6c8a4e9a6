"""Which result of a series is shown: the one that counts, or the one that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.reasons import Code
from appliance.report import BundleRef, Report, SeriesKey, Stage, Status
from appliance.web.pixels.chosen import Chosen, chosen
from rigs import ward
from rigs.ward import NAMING, Ward

OTHER = BundleRef(name="lung-other", version="2.0.0", digest="c" * 64)


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[Ward]:
    with Ward(tmp_path / "state") as made:
        yield made


def asked(at_work: Ward, key: SeriesKey, report: str | None = None) -> Chosen | None:
    series = str(NAMING.series(key))
    return chosen(at_work.journal, NAMING.study(key.study), series, report)


def of(at_work: Ward, key: SeriesKey, bundle: BundleRef, digest: str, **more: Any) -> Report:
    name = NAMING.report(key, bundle.digest, digest)
    return at_work.report(key, report_id=name, input_digest=digest, bundle=bundle, **more)


def test_without_a_choice_it_is_the_result_that_counts(at_work: Ward) -> None:
    key = at_work.arrive()
    first = of(at_work, key, ward.BUNDLE, "b" * 64)
    second = of(at_work, key, ward.BUNDLE, "d" * 64, revision=2, supersedes=first.report_id)
    found = asked(at_work, key)
    assert found is not None
    assert found.report == second
    assert [(one.revision, one.stands) for one in found.choices] == [(2, True), (1, False)]


def test_every_result_of_the_series_can_be_asked_for(at_work: Ward) -> None:
    key = at_work.arrive()
    first = of(at_work, key, ward.BUNDLE, "b" * 64)
    other = of(at_work, key, OTHER, "b" * 64)
    of(at_work, key, ward.BUNDLE, "d" * 64, revision=2, supersedes=first.report_id)
    for report in (first, other):
        found = asked(at_work, key, str(report.report_id))
        assert found is not None
        assert found.report == report
        stands = {one.bundle for one in found.choices if one.stands}
        assert stands == {"lung-nodule 1.4.0", "lung-other 2.0.0"}


def test_a_preliminary_result_and_its_final_form_are_one_choice(at_work: Ward) -> None:
    key = at_work.arrive()
    before = of(at_work, key, ward.BUNDLE, "b" * 64, stage=Stage.PRELIMINARY)
    final = of(at_work, key, ward.BUNDLE, "b" * 64, before=before)
    found = asked(at_work, key)
    assert found is not None
    assert found.report == final
    assert [one.stage for one in found.choices] == [Stage.FINAL]


def test_a_bundle_that_refused_the_series_hides_nothing_of_one_that_did_not(at_work: Ward) -> None:
    key = at_work.arrive()
    analysed = of(at_work, key, ward.BUNDLE, "b" * 64)
    reason = ward.Reason(code=Code.PATIENT_AGE, text="the patient is 3 years old")
    of(at_work, key, OTHER, "b" * 64, status=Status.NOT_ANALYSED, reasons=(reason,))
    found = asked(at_work, key)
    assert found is not None
    assert found.report == analysed
    assert [one.report for one in found.choices] == [str(analysed.report_id)]


def test_a_result_of_another_series_or_of_none_is_not_there(at_work: Ward) -> None:
    key, other = at_work.arrive(), at_work.arrive()
    of(at_work, key, ward.BUNDLE, "b" * 64)
    foreign = of(at_work, other, ward.BUNDLE, "b" * 64)
    for name in (str(foreign.report_id), "", "../../key", "0" * 36, "%00"):
        assert asked(at_work, key, name) is None
    assert chosen(at_work.journal, NAMING.study("1.9"), str(NAMING.series(key)), None) is None


def test_a_series_of_which_nothing_was_reported_has_images_and_no_result(at_work: Ward) -> None:
    key = at_work.arrive()
    assert asked(at_work, key) == Chosen(key, None, ())
