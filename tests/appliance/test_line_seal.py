"""What `seal` adds to a Result: names, stage, revision, times; and what never gets out."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from pydicom.uid import UID

from appliance import line
from appliance.naming import Naming
from appliance.records import Identity, Result
from appliance.report import Report, SeriesKey, Stage, Status, Times
from rigs.chests import Slices
from rigs.device import Process


@pytest.fixture(scope="module")
def good(dicom: Any, process: Process) -> Result:
    """What the small chest gives when nothing is wrong with it."""
    return process(dicom.all(dicom.chest()))


def test_ids_are_derived_from_study_series_bundle_and_input(good: Result, seal: Any) -> None:
    report: Report = seal(good)
    assert good.bundle is not None
    key = SeriesKey(good.facts.study_uid, good.facts.series_uid)
    named = Naming(b"k" * 32).report(key, good.bundle.digest, good.input_digest)
    assert seal(good).report_id == report.report_id == named
    for moved in ({"series_uid": "1.2.3"}, {"study_uid": "1.2.3"}):
        other = replace(good, facts=replace(good.facts, **moved))
        assert seal(other).report_id != report.report_id
    assert seal(replace(good, input_digest="0" * 64)).report_id != report.report_id


def test_tracking_uids_are_valid_unique_and_follow_the_report(good: Result, seal: Any) -> None:
    report = seal(good)
    uids = [f.tracking_uid for f in report.findings]
    assert len(set(uids)) == len(uids) > 1
    assert all(UID(uid).is_valid and uid.startswith("2.25.") for uid in uids)
    assert uids == [f.tracking_uid for f in seal(good).findings]
    other = seal(replace(good, input_digest="0" * 64))
    assert not {f.tracking_uid for f in other.findings} & set(uids)


def test_the_pseudonym_needs_the_site_key(good: Result, seal: Any) -> None:
    report = seal(good)
    assert report.study.pseudonym == Naming(b"k" * 32).study(good.facts.study_uid)
    assert seal(good, key=b"x" * 32).study.pseudonym != report.study.pseudonym


def test_no_id_can_be_computed_without_the_site_key(good: Result, seal: Any) -> None:
    report, other = seal(good), seal(good, key=b"x" * 32)
    assert other.report_id != report.report_id
    pairs = zip(report.findings, other.findings, strict=True)
    assert all(one.tracking_uid != two.tracking_uid for one, two in pairs)


def test_a_report_that_is_known_keeps_its_id_and_those_of_its_findings(
    good: Result, seal: Any
) -> None:
    known = seal(good, key=b"x" * 32).model_copy(update={"report_id": uuid.uuid4()})
    identity = Identity(Naming(b"k" * 32), False, 1, None, preliminary=False, before=known)
    again = line.seal(good, identity, Times())
    assert again.report_id == known.report_id
    assert [f.tracking_uid for f in again.findings] == [f.tracking_uid for f in known.findings]
    assert again.study.pseudonym == Naming(b"k" * 32).study(good.facts.study_uid)


def test_uids_leave_only_where_the_site_lets_them(good: Result, seal: Any, slices: Slices) -> None:
    closed, opened = seal(good), seal(good, publish_uids=True)
    uids = [slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID]
    uids += [ds.SOPInstanceUID for ds in slices] + [slices[0].FrameOfReferenceUID]
    assert not [uid for uid in uids if uid in closed.to_json()]
    assert opened.series.instance_uid == slices[0].SeriesInstanceUID
    names = {ds.SOPInstanceUID for ds in slices}
    assert {f.key_sop_instance_uid for f in opened.findings} <= names
    assert slices[0].StudyInstanceUID + '"' not in opened.to_json()  # only its pseudonym, ever


def test_the_key_image_is_the_one_that_shows_the_finding(
    good: Result, seal: Any, slices: Slices
) -> None:
    z_of = {ds.SOPInstanceUID: float(ds.ImagePositionPatient[2]) for ds in slices}
    feet_first = sorted(z_of.values())
    for finding in seal(good, publish_uids=True).findings:
        z = finding.center_lps_mm[2]
        assert abs(z_of[finding.key_sop_instance_uid] - z) <= 2.5 + 1e-6
        assert feet_first[finding.key_image] == z_of[finding.key_sop_instance_uid]


def test_stage_revision_and_times_come_from_the_outside(good: Result) -> None:
    before = "00000000-0000-5000-8000-000000000000"
    report = line.seal(good, Identity(Naming(b"k"), True, 7, before, preliminary=True), Times())
    assert (report.stage, report.revision) == (Stage.PRELIMINARY, 7)
    assert str(report.supersedes) == before
    assert report.times.committed is None
    final = line.seal(good, Identity(Naming(b"k"), True, 7, before, preliminary=False), Times())
    assert final.stage is Stage.FINAL


PHI = {
    "PatientName": "Quixote^Alonso",
    "PatientID": "PID-998877",
    "PatientBirthDate": "19470731",
    "AccessionNumber": "ACC-554433",
    "OtherPatientIDs": "OTHER-1122",
    "PatientAddress": "Windmill Lane 1",
    "ReferringPhysicianName": "Panza^Sancho",
    "InstitutionName": "La Mancha General",
    "StudyDescription": "Quixote chest",
    "SeriesDescription": "for Dulcinea",
    "PatientComments": "tilts at windmills",
    "BodyPartExamined": "CHEST QUIXOTE",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "DULCINEA"],
}


@pytest.mark.parametrize("spoil", [{}, {"Rows": 81}, {"ImageType": ["DERIVED", "Quixote", "MIP"]}])
def test_no_identity_is_in_the_report(
    spoil: dict[str, Any], process: Process, dicom: Any, seal: Any
) -> None:
    result = process(dicom.all(dicom.chest(**{**PHI, **spoil})))
    assert (result.status is Status.ANALYSED) == (not spoil)
    said = seal(result, publish_uids=True).to_json().upper()
    values = [str(v).upper() for v in PHI.values() if isinstance(v, str)] + ["DULCINEA"]
    values = [part for value in values for part in value.replace("CHEST", "").split("^")]
    assert [v for v in values if v.strip() and v.strip() in said] == []


def test_a_name_in_the_wrong_tag_does_not_get_out(process: Process, dicom: Any, seal: Any) -> None:
    result = process(dicom.all(dicom.chest(Modality="QUIXOTE")))
    assert result.status is Status.NOT_ANALYSED
    assert result.facts.modality is None
