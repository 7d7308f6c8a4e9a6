"""The report: a refusal is never mistakable for a negative, ids are derived, fields are fixed."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from appliance.reasons import REMEDIES, Code
from appliance.report import (
    BackendRef,
    BundleRef,
    Disease,
    Finding,
    LungDisease,
    Reason,
    Report,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
    Times,
    input_digest,
)

WHY = Reason(code=Code.NO_LUNGS, text="0 ml of lung were found", where="series")
BUNDLE = BundleRef(name="b", version="1.0.0", digest="a" * 64)
BACKEND = BackendRef(name="onnxruntime", precision="fp32")


def finding(**changes: Any) -> Finding:
    usual: dict[str, Any] = {
        "id": 1,
        "tracking_uid": "2.25.1",
        "kind": "nodule",
        "score": 0.9,
        "threshold": 0.5,
        "center_lps_mm": (0.0, 1.0, 2.0),
        "box_lps_mm": (0.0, 0.0, 0.0, 1.0, 1.0, 1.0),
        "key_image": 3,
    }
    return Finding(**{**usual, **changes})


def report(**changes: Any) -> Report:
    usual: dict[str, Any] = {
        "report_id": uuid.UUID(int=5),
        "input_digest": "b" * 64,
        "revision": 1,
        "status": Status.ANALYSED,
        "stage": Stage.FINAL,
        "study": StudyRef(pseudonym="c" * 32),
        "series": SeriesRef(slices=10),
        "bundle": BUNDLE,
        "backend": BACKEND,
    }
    return Report(**{**usual, **changes})


# What can never be said


def test_a_finding_in_a_volume_has_its_place_and_one_in_a_radiograph_has_none() -> None:
    flat = {"kind": "pneumonia", "center_lps_mm": None, "box_lps_mm": None}
    assert finding(**flat, heat_map="heat-map-1").center_lps_mm is None
    for wrong in ({"center_lps_mm": None}, {"box_lps_mm": None}, {"kind": "pneumonia"}):
        with pytest.raises(ValidationError, match="of kind"):
            finding(**wrong)
    assert finding().place_lps_mm == (0.0, 1.0, 2.0)
    with pytest.raises(ValueError, match="no place"):
        _ = finding(**flat).place_lps_mm


@pytest.mark.parametrize("status", [Status.NOT_ANALYSED, Status.FAILED])
def test_a_refusal_cannot_have_findings(status: Status) -> None:
    with pytest.raises(ValidationError, match="has reasons and no findings"):
        report(status=status, reasons=(WHY,), findings=(finding(),))


@pytest.mark.parametrize("status", [Status.NOT_ANALYSED, Status.FAILED])
def test_a_refusal_cannot_be_without_reasons(status: Status) -> None:
    with pytest.raises(ValidationError, match="has reasons and no findings"):
        report(status=status)
    assert report(status=status, reasons=(WHY,)).reasons == (WHY,)


def test_an_analysis_cannot_have_reasons() -> None:
    with pytest.raises(ValidationError, match="limitations, not reasons"):
        report(reasons=(WHY,))
    assert report(limitations=(WHY,)).limitations == (WHY,)


@pytest.mark.parametrize("missing", ["bundle", "backend"])
def test_an_analysis_names_what_analysed(missing: str) -> None:
    with pytest.raises(ValidationError, match="names its bundle and backend"):
        report(**{missing: None})


def test_a_stored_refusal_cannot_be_turned_into_a_negative() -> None:
    said = json.loads(report(status=Status.NOT_ANALYSED, reasons=(WHY,)).to_json())
    said["status"] = "analysed"
    with pytest.raises(ValidationError):
        Report.model_validate(said)


@pytest.mark.parametrize(
    "changes",
    [
        {"score": 1.01},
        {"score": float("nan")},
        {"center_lps_mm": (0.0, float("inf"), 0.0)},
        {"id": 0},
        {"diameter_mm": -1.0},
        {"key_image": -1},
        {"kind": "cancer"},
        {"malignancy": 0.5},
    ],
)
def test_an_impossible_finding_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        finding(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"revision": 0},
        {"input_digest": "B" * 64},
        {"study": {"pseudonym": "1.2.3"}},
        {"patient_name": "x"},
        {"schema": "scanside.report/2"},
    ],
)
def test_an_impossible_report_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        report(**changes)


def test_a_report_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        report().status = Status.FAILED  # type: ignore[misc]


# What is said


FIELDS = {
    "report": ["schema", "notice", "appliance", "report_id", "input_digest", "revision", "edition",
               "supersedes", "status", "stage", "reasons", "limitations", "coverage",
               "study", "series", "bundle", "backend", "findings", "times"],
    "finding": ["id", "tracking_uid", "kind", "score", "threshold", "urgency", "center_lps_mm",
                "box_lps_mm", "diameter_mm", "measured", "long_axis_mm", "short_axis_mm",
                "mean_axis_mm", "equivalent_diameter_mm", "volume_mm3", "density", "side", "lobe",
                "key_image", "key_sop_instance_uid", "heat_map"],
    "reason": ["code", "text", "where", "remedy"],
    "coverage": ["lungs", "z_mm", "lungs_z_mm", "sides", "fov_mm"],
    "series": ["instance_uid", "modality", "slices", "spacing_mm", "thickness_mm", "kernel"],
    "times": ["first_slice", "last_slice", "released", "complete", "prepared", "inferred",
              "committed"],
}  # fmt: skip
"""scanside.report/1 as published. A new field is a change of the schema: CHANGELOG."""


def test_the_fields_of_the_schema_are_as_published() -> None:
    said = json.loads(report(findings=(finding(),), limitations=(WHY,)).to_json())
    assert list(said) == FIELDS["report"]
    assert list(said["findings"][0]) == FIELDS["finding"]
    assert list(said["limitations"][0]) == FIELDS["reason"]
    for name in ("coverage", "series", "times"):
        assert list(said[name]) == FIELDS[name]
    assert said["schema"] == "scanside.report/1"
    assert said["notice"] == "research use, not for clinical use"


DISEASE = Disease(
    right=LungDisease(lung_ml=2100, consolidated_ml=320, ground_glass_ml=45, emphysema_ml=0),
    left=LungDisease(lung_ml=1900, consolidated_ml=0, ground_glass_ml=0, emphysema_ml=10),
)


def test_what_came_later_is_written_only_where_it_says_something() -> None:
    """Above: without them every byte is as before."""
    inside = finding(certainty="unsure", unsure_why=["inside disease"])
    sick = Reason(code=Code.DIFFUSE_DISEASE, text="x", disease=DISEASE)
    said = json.loads(
        report(findings=(inside, finding(certainty="sure")), limitations=(sick,)).to_json()
    )
    assert list(said["findings"][0]) == [*FIELDS["finding"], "certainty", "unsure_why"]
    assert list(said["findings"][1]) == [*FIELDS["finding"], "certainty"]
    assert list(said["limitations"][0]) == [*FIELDS["reason"], "disease"]
    assert said["limitations"][0]["disease"]["right"]["consolidated_ml"] == 320
    made = report(findings=(inside,), limitations=(sick,))
    assert Report.model_validate_json(made.to_json()) == made
    assert not made.same_as(report(findings=(finding(),), limitations=(sick,)))


@pytest.mark.parametrize(
    "changes",
    [
        {"certainty": "unsure"},
        {"certainty": "sure", "unsure_why": ["inside disease"]},
        {"unsure_why": ["inside disease"]},
        {"certainty": "unsure", "unsure_why": ["too small"]},
    ],
)
def test_an_unsure_finding_says_why_in_known_words_and_no_other_does(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        finding(**changes)


def test_figures_of_disease_belong_to_one_code() -> None:
    with pytest.raises(ValidationError, match="lungs has no figures of disease"):
        Reason(code=Code.NO_LUNGS, text="x", disease=DISEASE)


def test_a_report_survives_json() -> None:
    times = Times(committed=datetime(2026, 1, 5, 9, 30, 1, 250000, tzinfo=timezone.utc))
    first = report(findings=(finding(),), limitations=(WHY,), times=times)
    assert Report.model_validate_json(first.to_json()) == first


def test_a_reason_brings_the_remedy_of_its_code() -> None:
    assert WHY.remedy == REMEDIES[Code.NO_LUNGS]
    own = Reason(code=Code.NO_LUNGS, text="none.", remedy="Do this.")
    assert own.remedy == "Do this."
    assert own.sentence() == "none. Do this."
    assert WHY.sentence() == f"0 ml of lung were found. {WHY.remedy}"


@pytest.mark.parametrize("data", [{"text": "x"}, {"code": "nonsense", "text": "x"}, {}, 5])
def test_a_reason_without_a_known_code_is_refused(data: Any) -> None:
    with pytest.raises(ValidationError):
        Reason.model_validate(data)


# Equal reports


def test_same_as_overlooks_times_revision_and_supersedes_only() -> None:
    one = report(findings=(finding(),))
    later = Times(committed=datetime(2026, 1, 5, tzinfo=timezone.utc))
    other = report(findings=(finding(),), times=later, revision=4, supersedes=uuid.UUID(int=7))
    assert one.same_as(other)
    assert other.same_as(one)


@pytest.mark.parametrize(
    "changes",
    [
        {"report_id": uuid.UUID(int=6)},
        {"input_digest": "c" * 64},
        {"stage": Stage.PRELIMINARY},
        {"limitations": (WHY,)},
        {"findings": ()},
        {"findings": (finding(score=0.91),)},
        {"series": SeriesRef(slices=11)},
        {"backend": BackendRef(name="openvino", precision="fp32")},
        {"bundle": BundleRef(name="b", version="1.0.1", digest="a" * 64)},
        {"study": StudyRef(pseudonym="d" * 32)},
    ],
)
def test_same_as_sees_every_other_difference(changes: dict[str, Any]) -> None:
    usual = {"findings": (finding(),)}
    assert not report(**usual).same_as(report(**{**usual, **changes}))


# Ids


pairs = st.lists(st.tuples(st.from_regex(r"1(\.[0-9]{1,3}){1,3}", fullmatch=True), st.just("d")))


@given(pairs, st.randoms())
def test_the_input_digest_does_not_know_the_order(images: list[Any], random: Any) -> None:
    shuffled = list(images)
    random.shuffle(shuffled)
    assert input_digest(shuffled) == input_digest(images)


def test_the_input_digest_tells_uid_from_digest_and_one_from_two() -> None:
    digests = {
        input_digest(images)
        for images in (
            [],
            [("1.2", "a")],
            [("1.2", "b")],
            [("1.3", "a")],
            [("1.2", "a"), ("1.3", "a")],
        )
    }
    assert len(digests) == 5


@pytest.mark.parametrize("length", [499, 500, 501, 5_000_000])
def test_a_text_that_is_published_has_a_length(length: int) -> None:
    reason = Reason(code=Code.NO_LUNGS, text="x" * length)
    assert len(reason.text) == min(length, 500)
    assert reason.text.startswith("x" * min(length, 499))
    assert Reason.model_validate_json(reason.model_dump_json()) == reason


def test_a_report_of_before_has_no_version_and_is_the_same() -> None:
    now = report(limitations=(WHY,)).model_copy(update={"appliance": "1.2.3"})
    before = json.loads(now.to_json())
    del before["appliance"]
    assert now.same_as(Report.model_validate(before))
