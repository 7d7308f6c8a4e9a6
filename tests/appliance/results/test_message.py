"""What leaves the device: only approved fields, always the common ones, only sound topics."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.report import Finding, Reason, Report, SeriesKey, Stage, Status, Urgency
from appliance.results import message
from appliance.room.check import Flag, RoomCheck, RoomValues
from appliance.room.codes import FlagCode
from appliance.verbs import schemas
from rigs.feedback import act
from rigs.peers import AT, a_message, a_report
from rigs.reports import NAMING

APPROVED = {
    # every message
    *("schema", "type", "event_id", "seq", "at", "notice"),
    # status, info, health, reply, check
    *("state", "reasons", "version", "ae_title", "port", "bundles", "backend", "machine"),
    *("uptime_s", "load", "memory_available_mb", "disk_free_mb", "spool_series", "stages"),
    *("outbox_waiting", "outbox_dead", "oldest_waiting_s", "verb", "id", "ok", "text", "engine"),
    *("audit_head", "row", "hash"),
    "filler",
    # study and finding
    *("event", "study", "series", "slices", "report", "withdrawn_report_id"),
    *("report_id", "stage", "finding", "bundle", "limitations"),
    # the report
    *("input_digest", "revision", "supersedes", "status", "coverage", "findings", "times"),
    *("appliance", "edition", "lungs_z_mm", "sides", "fov_mm"),
    *("code", "where", "remedy", "lungs", "z_mm", "pseudonym", "name", "digest"),
    *("modality", "spacing_mm", "thickness_mm", "kernel", "precision", "engine_digest"),
    *("first_slice", "last_slice", "released", "complete", "prepared", "inferred", "committed"),
    # UIDs: null unless the site lets them out; tracking_uid is ours
    *("instance_uid", "key_sop_instance_uid", "tracking_uid"),
    # a finding
    *("kind", "score", "threshold", "urgency", "center_lps_mm", "box_lps_mm", "diameter_mm"),
    *("measured", "long_axis_mm", "short_axis_mm", "mean_axis_mm", "equivalent_diameter_mm"),
    *("volume_mm3", "density", "side", "lobe", "key_image", "heat_map"),
    *("certainty", "unsure_why", "number", "tuning"),
    # the in-room check
    *("checked", "check", "verdict", "flags", "figure", "unit", "reason", "values"),
    *("lungs_head_cm2", "lungs_feet_cm2", "lungs_side_cm2", "body_edge_percent", "step_mm"),
    *("step_most_mm", "step_z_mm", "noise_hu", "noise_thick_hu", "air_noise_hu"),
    *("texture_per_mm", "lung_edge_hu_per_mm", "air_hu", "tissue_hu", "blood_hu", "contrast"),
    # a water phantom: of no patient
    *("figures", "codes", "expected", "earlier", "water_hu", "scale", "edges_hu", "bubble_mm"),
    *("uniformity_hu", "cupping_hu", "out_of_round_mm", "tilt_deg", "off_centre_mm"),
    *("response_50_per_mm", "response_10_per_mm"),
    # how updates stand: names of releases, and words of ours
    *("release", "slot", "why", "hold", "recalled"),
    # what a reader said; a place in a radiograph is a pixel of the image
    *("place_px", "image", "column"),
    *("bundle_digest", "verdict", "undoes", "size_mm", "role"),
    # scanners: keyed hashes, figures and codes; no text of a header
    *("watch", "n", "spread", "alarms", "statistic", "cause", "p10", "p50", "p90", "scanner"),
    # a comparison with an earlier exam: no date, no id, no key
    *(
        "person_doubts",
        "comparison",
        "comparison_id",
        "withdrawn",
        "prior",
        "which",
        "interval_days",
    ),
    *("person", "share", "keypoints", "registered", "method", "weak", "residual_mm", "measured_by"),
    *("prior_finding", "prior_center_lps_mm", "distance_mm", "seen_below_threshold"),
    *("merged_from", "split_into", "then", "now", "change", "decided_by", "difference_percent"),
    *("limit_percent", "difference_mm", "limit_mm", "rate_per_year", "doubling_days", "value"),
    *("low", "high", "doubling_not_under_days", "over_1_5_mm", "over_25_percent"),
    *("solid_part_not_measured",),
    # disease
    *("disease", "right", "left", "lung_ml", "consolidated_ml", "ground_glass_ml", "emphysema_ml"),
    # an exam beside an earlier one: figures, states, and a pseudonym of each exam
    "person_doubts",
    *("change", "comparison", "comparison_id", "decided_by", "difference_mm"),
    *("difference_percent", "distance_mm", "doubling_days", "doubling_not_under_days", "high"),
    *("interval_days", "keypoints", "limit_mm", "limit_percent", "low", "measured_by"),
    *("merged_from", "method", "now", "over_1_5_mm", "over_25_percent", "person", "prior"),
    *("prior_center_lps_mm", "prior_finding", "rate_per_year", "registered", "residual_mm"),
    *("seen_below_threshold", "share", "solid_part_not_measured", "split_into", "then", "value"),
    *("weak", "which", "withdrawn"),
}
KEY = SeriesKey("1.2", "1.2.3")
FORBIDDEN = ("patient", "birth", "accession", "physician", "operator", "institution", "address")


def properties(schema: Any) -> Iterator[str]:
    """Every property name anywhere in a schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"]
        for value in schema.values():
            yield from properties(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value)


@pytest.mark.parametrize("model", schemas.MESSAGES.values(), ids=schemas.MESSAGES)
def test_every_field_that_leaves_the_device_is_approved(model) -> None:
    schema = model.model_json_schema(mode="serialization")
    assert set(properties(schema)) <= APPROVED
    assert not [n for n in properties(schema) for bad in FORBIDDEN if bad in n.lower()]


@pytest.mark.parametrize("model", schemas.MESSAGES.values(), ids=schemas.MESSAGES)
def test_no_message_takes_a_field_that_is_not_its_own(model) -> None:
    schema = model.model_json_schema(mode="serialization")
    open_ones = [
        name
        for name, part in {"": schema, **schema.get("$defs", {})}.items()
        if part.get("type") == "object" and part.get("additionalProperties") is not False
    ]
    assert open_ones == []


def test_every_type_of_outgoing_message_has_a_schema() -> None:
    field = message.Outgoing.model_fields["message"].annotation
    assert set(field.__args__) == set(schemas.MESSAGES.values())


def test_a_payload_has_its_number_schema_and_notice() -> None:
    payload = json.loads(a_message(3).message.to_json(17))
    assert payload["seq"] == 17
    assert payload["schema"] == "scanside.message/1"
    assert payload["notice"] == "research use, not for clinical use"
    assert "schema_" not in payload


def test_a_report_is_its_event_and_one_message_a_finding() -> None:
    report = a_report(findings=2)
    first, *rest = message.of_report(report, KEY, naming=NAMING, at=AT)
    assert first.topic == f"study/{report.study.pseudonym}/event"
    assert isinstance(first.message, message.StudyEvent)
    assert first.message.event == "analysed"
    assert first.message.report == report
    assert [o.topic for o in rest] == ["finding/routine"] * 2
    assert not any(o.retain for o in (first, *rest))


def test_a_check_names_its_report_and_stage_and_carries_no_report() -> None:
    report = a_report(findings=1)
    flag = Flag(code=FlagCode.NOISE, text="noise of 90 HU", figure=90.0, unit="HU")
    check = RoomCheck(verdict="look", flags=(flag,), values=RoomValues(noise_hu=90.0))
    said = message.of_check(check, report, KEY, naming=NAMING, at=AT)
    assert said.topic == f"study/{report.study.pseudonym}/event"
    payload = json.loads(said.message.to_json(5))
    assert (payload["event"], payload["report"], payload["seq"]) == ("checked", None, 5)
    assert payload["checked"]["report_id"] == str(report.report_id)
    assert payload["checked"]["stage"] == report.stage.value
    assert payload["checked"]["check"]["flags"][0]["figure"] == 90.0


def test_the_check_of_each_stage_and_edition_has_an_event_id_of_its_own() -> None:
    check = RoomCheck(verdict="usable")
    final = a_report()
    forms = (
        final,
        final.model_copy(update={"stage": Stage.PRELIMINARY}),
        final.model_copy(update={"edition": 2}),
    )
    ids = {
        message.of_check(check, form, KEY, naming=NAMING, at=AT).message.event_id for form in forms
    }
    assert len(ids) == len(forms)


def test_what_is_no_check_has_no_word_of_one() -> None:
    for outgoing in message.of_report(a_report(findings=1), KEY, naming=NAMING, at=AT):
        assert "checked" not in json.loads(outgoing.message.to_json(1))


INSIDE, MANY = "inside disease", "one of many ground-glass findings on both sides"


def unsure(report: Report, why: dict[int, tuple[str, ...]]) -> Report:
    """The report with doubts of some of its findings; the others are sure."""
    changed = [
        Finding(
            **{
                **f.model_dump(),
                "certainty": "unsure" if why.get(f.id) else "sure",
                "unsure_why": why.get(f.id, ()),
            }
        )
        for f in report.findings
    ]
    return report.model_copy(update={"findings": tuple(changed)})


def test_findings_inside_disease_go_out_in_one_message_that_says_their_number() -> None:
    report = unsure(a_report(findings=4), {1: (INSIDE,), 3: (MANY,), 4: (INSIDE, MANY)})
    event, *rest = message.of_report(report, KEY, naming=NAMING, at=AT)
    assert isinstance(event.message, message.StudyEvent)
    assert event.message.report == report
    alone, together = (o.message for o in rest)
    assert isinstance(alone, message.FindingMessage)
    assert (alone.finding.id, alone.finding.certainty) == (2, "sure")
    assert isinstance(together, message.FindingsMessage)
    assert together.number == 3
    assert [f.id for f in together.findings] == [1, 3, 4]
    assert together.report_id == report.report_id
    assert alone.event_id != together.event_id
    assert {o.topic for o in rest} == {"finding/routine"}
    again = message.of_report(report, KEY, naming=NAMING, at=AT, completes=report)
    assert [o.message.type for o in again] == ["study"]


def test_the_most_urgent_of_them_says_the_topic() -> None:
    report = unsure(a_report(findings=3), dict.fromkeys((1, 2, 3), (INSIDE,)))
    urgent = report.findings[1].model_copy(update={"urgency": Urgency.URGENT})
    report = report.model_copy(
        update={"findings": (report.findings[0], urgent, report.findings[2])}
    )
    _, together = message.of_report(report, KEY, naming=NAMING, at=AT)
    assert together.topic == "finding/urgent"


def test_a_withdrawal_comes_before_what_supersedes_it() -> None:
    report = a_report(findings=0).model_copy(update={"supersedes": uuid.uuid4()})
    withdrawn, analysed = (o.message for o in message.of_report(report, KEY, naming=NAMING, at=AT))
    assert isinstance(withdrawn, message.StudyEvent)
    assert isinstance(analysed, message.StudyEvent)
    assert (withdrawn.event, withdrawn.withdrawn_report_id) == ("superseded", report.supersedes)
    assert analysed.event == "analysed"


def test_a_later_form_of_a_report_withdraws_nothing_again() -> None:
    first = a_report(findings=0).model_copy(update={"supersedes": uuid.uuid4()})
    again = first.model_copy(update={"edition": 2})
    said = message.of_report(again, KEY, naming=NAMING, at=AT, completes=first)
    assert [one.message.event for one in said if one.message.type == "study"] == ["analysed"]


def test_a_refusal_carries_its_reasons_and_no_finding() -> None:
    refused = Report(
        **{
            **a_report(findings=0).model_dump(exclude={"schema_"}),
            "status": Status.NOT_ANALYSED,
            "reasons": (Reason(code="gantry_tilt", text="tilt 12 degrees"),),
        }
    )
    (only,) = message.of_report(refused, KEY, naming=NAMING, at=AT)
    assert isinstance(only.message, message.StudyEvent)
    assert only.message.event == "not_analysed"
    assert only.message.reasons == refused.reasons


def test_the_same_events_have_the_same_ids_and_others_have_others() -> None:
    def ids(name: str) -> list[uuid.UUID]:
        made = message.of_report(a_report(name), KEY, naming=NAMING, at=AT)
        return [o.message.event_id for o in made]

    assert ids("1") == ids("1")
    assert not set(ids("1")) & set(ids("2"))
    assert len(set(ids("1"))) == 3


def test_no_uid_of_the_scanner_leaves_where_the_site_keeps_them() -> None:
    uid = "1.3.12.2.1107.5.1.4"
    key = SeriesKey("1.2", uid)
    report = a_report()
    for outgoing in (
        *message.of_report(report, key, naming=NAMING, at=AT),
        message.of_series("complete", key, naming=NAMING, slices=9, at=AT),
    ):
        assert uid not in outgoing.topic
        assert uid not in outgoing.message.to_json(1)


@pytest.mark.parametrize("topic", ["", "/status", "a//b", "a/#", "+", "a\n", "$SYS/x", "a/" * 9])
def test_topics_with_wildcards_or_empty_levels_are_impossible(topic) -> None:
    with pytest.raises(ValidationError):
        message.Outgoing(topic=topic, qos=1, message=a_message(1).message)


def test_feedback_names_the_role_of_its_reader_and_neither_the_reader_nor_a_score() -> None:
    report = a_report()
    said = act(report, "missed", reader="ab12cd34", score=0.123456)
    outgoing = message.of_feedback(said)
    assert outgoing.topic == f"study/{report.study.pseudonym}/event"
    assert (outgoing.qos, outgoing.retain) == (1, False)
    payload = json.loads(outgoing.message.to_json(3))
    assert (payload["event_id"], payload["event"], payload["role"]) == (
        str(said.uid),
        "feedback",
        "radiologist",
    )
    assert payload["at"] == "2026-01-02T12:00:00Z"
    assert payload["center_lps_mm"] == [10.0, -20.0, 30.5]
    assert "ab12cd34" not in json.dumps(payload)
    assert "0.123456" not in json.dumps(payload)
