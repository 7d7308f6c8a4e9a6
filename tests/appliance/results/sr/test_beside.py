"""Findings beside an earlier exam in a structured report: valid, apart from today, not judged."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import highdicom
import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.comparison import Followed, KeptComparison, PriorRef
from appliance.reasons import Code
from appliance.report import Reason
from appliance.results.sr.case import Beside, Case
from appliance.results.sr.findings import measurements
from appliance.results.sr.text import text, withdrawal
from rigs import beside, oblique

FORBIDDEN = re.compile(
    r"\b(benign|malignan\w*|stable|stability|progress\w*|suspicious|recommend\w*)\b", re.IGNORECASE
)


def compared(case: Case, *findings: Followed, **more: object) -> Beside:
    said = beside.comparison(case.report, findings or beside.FINDINGS, **more)
    return Beside(kept=KeptComparison(comparison=said, prior=beside.IMAGES))


def every(made: Dataset) -> list[Dataset]:
    below = made.get("ContentSequence", [])
    return [one for item in below for one in (item, *every(item))]


def numbers(group: Dataset) -> dict[str, tuple[float, str, str]]:
    """Code value -> value, unit, and the image that it is inferred from."""
    found = {}
    for one in every(group):
        if one.ValueType == "NUM":
            (value,) = one.MeasuredValueSequence
            image = "".join(
                str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
                for i in one.get("ContentSequence", [])
                if i.ValueType == "IMAGE"
            )
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            found[str(one.ConceptNameCodeSequence[0].CodeValue)] = (
                float(value.NumericValue),
                str(unit),
                image,
            )
    return found


def groups(made: Dataset) -> list[Dataset]:
    return [
        one
        for one in every(made)
        if one.ValueType == "CONTAINER" and one.ConceptNameCodeSequence[0].CodeValue == "125007"
    ]


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("three_d", [True, False])
def test_other_programs_find_no_error_and_read_then_and_now(
    make_case: Callable[..., Case], judged: Callable[..., str], three_d: bool
) -> None:
    images = oblique.series(oblique.POSES["axial"], 20)
    case = make_case(headers=images)
    case = make_case(headers=images, beside=(compared(case),))
    one = measurements(case, three_d=three_d)
    said = judged(one.data, images)
    for words in (
        "Compared with the newest earlier exam that is kept, 364 days before",
        "matched, with its finding 2, larger, volume +100 % (limit 25 %, this decides)",
        "rate ln(V2/V1) +0.69 a year (95 %: +0.47 to +0.92)",
        "not comparable, the other exam does not show this place",
        "its finding 1 is gone: not there today, then 10.0 mm",
        "may differ from those of the reports",
    ):
        assert words in said, words
    kind = highdicom.sr.Comprehensive3DSR if three_d else highdicom.sr.ComprehensiveSR
    assert len(kind.from_dataset(read(one.data)).content.get_planar_roi_measurement_groups()) == 2


def test_what_was_measured_then_has_names_of_its_own_and_the_key_image_of_then(
    make_case: Callable[..., Case],
) -> None:
    case = make_case()
    before = read(measurements(case).data)
    made = read(measurements(make_case(beside=(compared(case),))).data)
    assert len(groups(made)) == len(groups(before)), "no group of its own"
    now, found = numbers(groups(before)[0]), numbers(groups(made)[0])
    assert {name: found[name] for name in now} == now, "figures of the report stay"
    image = "1.2.77.1.6"
    assert {name: found[name] for name in found.keys() - now.keys()} == {
        "newest-volume": (512.0, "mm3", image),
        "newest-mean-axis": (10.0, "mm", image),
        "newest-vol-diff": (100.0, "%", image),
        "newest-mean-diff": (2.5, "mm", image),
        "newest-rate": (0.69, "/a", image),
        "newest-doubling": (365.0, "d", image),
        "newest-interval": (364.0, "d", image),
    }
    assert numbers(groups(made)[1]) == numbers(groups(before)[1]), "not comparable: no figure"
    (study,) = made.PertinentOtherEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == ("1.2.77", "1.2.77.1")
    assert [i.ReferencedSOPInstanceUID for i in series.ReferencedSOPSequence] == [image]


def test_the_newest_and_the_oldest_exam_are_told_apart(make_case: Callable[..., Case]) -> None:
    case = make_case()
    both = []
    for which, days in (("newest", 100), ("oldest", 900)):
        prior = PriorRef(study="7" * 32, report_id=beside.PRIOR, which=[which], interval_days=days)
        both.append(compared(case, prior=prior))
    found = numbers(groups(read(measurements(make_case(beside=tuple(both))).data))[0])
    assert (found["newest-interval"][0], found["oldest-interval"][0]) == (100, 900)
    assert all(len(name) <= 16 for name in found), "SH has 16 characters"


def test_without_a_key_image_of_then_a_figure_is_inferred_from_nothing(
    make_case: Callable[..., Case],
) -> None:
    case = make_case()
    said = beside.comparison(case.report)
    case = make_case(beside=(Beside(kept=KeptComparison(comparison=said)),))
    made = read(measurements(case).data)
    assert numbers(groups(made)[0])["newest-volume"] == (512.0, "mm3", "")
    assert "PertinentOtherEvidenceSequence" not in made


def test_what_was_not_compared_says_why(
    make_case: Callable[..., Case], judged: Callable[..., str]
) -> None:
    case = make_case()
    reason = Reason(code=Code.NO_PRIOR, text="no earlier exam of this person is kept")
    said = beside.comparison(
        case.report, (), status="not_compared", reasons=(reason,), prior=None, person=None,
        registered=None,
    )  # fmt: skip
    one = Beside(kept=KeptComparison(comparison=said))
    made = judged(measurements(make_case(beside=(one,))).data)
    assert "Not compared with an earlier exam: no earlier exam of this person is kept" in made


def test_a_pair_called_wrong_says_so(make_case: Callable[..., Case]) -> None:
    case = make_case()
    wrong = compared(case).model_copy(update={"wrong": (0,)})
    said = [
        str(one.TextValue)
        for one in every(read(measurements(make_case(beside=(wrong,))).data))
        if one.ValueType == "TEXT"
    ]
    assert [line for line in said if "a reader called this pair wrong" in line] == [
        line for line in said if "with its finding 2" in line
    ]


def test_a_text_says_what_is_gone_and_a_withdrawal_nothing_of_it(
    make_case: Callable[..., Case], judged: Callable[..., str]
) -> None:
    case = make_case(report={"findings": ()})
    gone = beside.FINDINGS[2]
    case = make_case(report={"findings": ()}, beside=(compared(case, gone),))
    below = Followed(prior_finding=4, state="matched", seen_below_threshold=True)
    said = judged(text(replace(case, beside=(compared(case, gone, below),))).data)
    assert "its finding 1 is gone" in said
    assert "its finding 4 is matched, today below the threshold of the report" in said
    assert "earlier exam" not in judged(withdrawal(case, None).data)


def test_a_further_instance_has_a_uid_and_a_higher_number_in_the_same_series(
    make_case: Callable[..., Case],
) -> None:
    case = make_case()
    one = compared(case)
    first = measurements(case).identified
    more: dict[str, Any] = {"beside": (one,), "comparison": one.kept.comparison.comparison_id}
    second = measurements(make_case(**more)).identified
    third = measurements(make_case(**more, later=1)).identified
    assert first.series_uid == second.series_uid
    assert first.sop_instance_uid != second.sop_instance_uid
    assert first.instance_number < second.instance_number < third.instance_number


def test_no_word_judges_what_a_change_means(make_case: Callable[..., Case]) -> None:
    case = make_case()
    made = read(measurements(make_case(beside=(compared(case),))).data)
    said = " ".join(str(one.value) for one in made.iterall() if one.VR in {"UT", "LO"})
    assert "larger" in said
    assert not FORBIDDEN.search(said)
