"""`scanside discard`: how a correction is taken, from the refusal to the new report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ScansideError
from appliance.reasons import Code
from appliance.report import Report, SeriesKey, Status
from appliance.runtime.bundles import OpenBundles
from appliance.settings import Settings
from appliance.store.events import HeaderChanged
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.verbs.checks.check import Check, Device
from appliance.verbs.checks.corrections import corrections
from appliance.verbs.discard import discard
from appliance.work.stage import Work
from rigs.chests import Dicom
from rigs.device import Device as Box

STUDY = "1.2.826.0.1.3680043.10.1"
KEY = SeriesKey(STUDY, f"{STUDY}.2")
REFORMATTED = {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}


def arrive(settings: Settings, dicom: Dicom, **tags: Any) -> None:
    """As `receive` takes it: into the spool, with the journal told."""
    spool = Spool(settings.state)
    slices = dicom.chest(**tags)
    for ds in slices:
        temp = spool.incoming_path()
        temp.write_bytes(dicom.bytes(ds))
        spool.store(
            temp, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, lambda *_: False
        )
    key = SeriesKey(slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID)
    with Journal.open(settings.state) as journal:
        association = journal.series.association_opened(
            calling_ae="CT1", called_ae="SCANSIDE", host="192.0.2.1"
        )
        count, at = len(slices), time.time()
        journal.series.arrived(association, key, calling_ae="CT1", instances=count, at=at)
        journal.series.association_ended(association, "released")


def judge(settings: Settings) -> Report:
    """What `work` says last of the series."""
    with Journal.open(settings.state) as journal:
        bundles = OpenBundles(settings)
        bundles.refresh()
        work = Work(settings, journal, Spool(settings.state), bundles)
        work.look_everywhere()
        end = time.monotonic() + 120
        while work.following and time.monotonic() < end:
            work.take_turn()
            time.sleep(min(0.05, work.wait_s()))
        bundles.close()
        return journal.reports.recent(1)[0]


def withdrawn(settings: Settings) -> list[str]:
    with Journal.open(settings.state) as journal:
        bodies = [row.body or b"" for row in journal.owed.of_study("mqtt", STUDY)]
    return [body.decode() for body in bodies if b"superseded" in body]


@pytest.fixture
def judged(ready_site: Box, dicom: Dicom) -> Settings:
    """A device that has analysed a chest."""
    arrive(ready_site.settings, dicom)
    assert judge(ready_site.settings).status is Status.ANALYSED
    return ready_site.settings


def test_a_corrected_series_is_judged_anew_and_the_report_of_before_is_withdrawn(
    judged: Settings, dicom: Dicom
) -> None:
    with Journal.open(judged.state) as journal:
        before = journal.reports.latest(KEY)
    assert before is not None
    assert discard(judged, KEY.series) == 24
    assert Spool(judged.state).series() == []
    with Journal.open(judged.state) as journal:
        assert journal.reports.latest(KEY) == before, "it stands until the images come again"
        (audited,) = journal.audit.rows(1)
    assert (audited.action, audited.detail["images"]) == ("series_discard", 24)
    arrive(judged, dicom, **REFORMATTED)
    after = judge(judged)
    assert after.status is Status.NOT_ANALYSED
    assert [reason.code for reason in after.reasons] == [Code.REFORMATTED]
    assert after.supersedes == before.report_id
    (said,) = withdrawn(judged)
    assert str(before.report_id) in said


def test_the_same_images_with_another_patient_id_keep_their_report(
    judged: Settings, dicom: Dicom
) -> None:
    with Journal.open(judged.state) as journal:
        before = journal.reports.of_study(STUDY)
    discard(judged, KEY.series)
    arrive(judged, dicom, PatientID="PID-2")
    judge(judged)
    with Journal.open(judged.state) as journal:
        assert journal.reports.of_study(STUDY) == before
        (row,) = journal.series.all()
        assert (row.state, row.instances) == ("analysed", 24)
    assert withdrawn(judged) == []


def test_what_comes_again_without_a_word_to_the_journal_is_judged_too(
    judged: Settings, dicom: Dicom
) -> None:
    """`receive` may end before it tells; the spool is the truth."""
    discard(judged, KEY.series)
    spool = Spool(judged.state)
    folder = spool.folder(KEY)
    folder.mkdir(parents=True)
    for ds in dicom.chest(**REFORMATTED):
        (folder / f"{ds.SOPInstanceUID}.dcm").write_bytes(dicom.bytes(ds))
    assert [reason.code for reason in judge(judged).reasons] == [Code.REFORMATTED]


@pytest.mark.parametrize("state", ["open", "complete", "late"])
def test_what_is_not_judged_is_not_discarded(judged: Settings, state: str) -> None:
    with Journal.open(judged.state) as journal:
        if state == "late":
            (Spool(judged.state).folder(KEY) / "1.2.3.dcm").write_bytes(b"late")
        else:
            journal.series.set(KEY, state)  # type: ignore[arg-type]
    count = len(Spool(judged.state).instances(KEY))
    with pytest.raises(ScansideError) as refused:
        discard(judged, KEY.series)
    assert refused.value.code == "not_judged"
    assert len(Spool(judged.state).instances(KEY)) == count


def test_what_is_not_here_says_so(judged: Settings, tmp_path: Path) -> None:
    with pytest.raises(ScansideError) as unknown:
        discard(judged, "1.2.3")
    assert unknown.value.code == "no_series"
    discard(judged, KEY.series)
    with pytest.raises(ScansideError) as gone:
        discard(judged, KEY.series)
    assert gone.value.code == "images_deleted"
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    with pytest.raises(ScansideError):
        discard(Settings(state=fresh), "1.2.3")
    assert list(fresh.iterdir()) == []


def test_of_two_studies_with_one_series_uid_the_study_must_be_named(
    judged: Settings, dicom: Dicom
) -> None:
    arrive(judged, dicom, study_uid="1.2.3")
    judge(judged)
    with pytest.raises(ScansideError) as refused:
        discard(judged, KEY.series)
    assert refused.value.code == "ambiguous_series"
    assert STUDY in refused.value.remedy
    with pytest.raises(ScansideError, match="is not on this device under study") as other:
        discard(judged, KEY.series, "1.9")
    assert other.value.code == "no_series"
    assert STUDY in other.value.remedy
    assert discard(judged, KEY.series, "1.2.3") == 24
    assert Spool(judged.state).series() == [KEY]


# The line of the doctor.


def said(settings: Settings) -> Check:
    return corrections(Device(settings, "scanside.toml"))


def test_the_doctor_says_how_a_correction_is_taken_until_it_is(
    judged: Settings, dicom: Dicom
) -> None:
    assert said(judged).text == "none waits"
    instance = next(iter(Spool(judged.state).instances(KEY)))
    common: dict[str, Any] = {"study": STUDY, "instance": instance, "association": "a"}
    with Journal.open(judged.state) as journal:
        for changed, refused in ((("Patient ID",), True), (("name",), False), (("age",), True)):
            journal.events.add(
                HeaderChanged(subject=KEY.series, changed=changed, refused=refused, **common)
            )
    check = said(judged)
    assert check.ok, "it is no fault of the device"
    assert f"series {KEY.series} (age, Patient ID)" in check.text
    assert f"`scanside discard {KEY.series}`" in check.remedy
    discard(judged, KEY.series)
    assert said(judged).text == "none waits"
    arrive(judged, dicom, PatientID="PID-2")
    assert said(judged).text == "none waits", "the new images stand"


def test_of_two_studies_with_one_series_uid_the_doctor_names_the_study_to_discard(
    judged: Settings, dicom: Dicom
) -> None:
    arrive(judged, dicom, study_uid="1.2.3")
    judge(judged)
    instance = next(iter(Spool(judged.state).instances(KEY)))
    with Journal.open(judged.state) as journal:
        journal.events.add(
            HeaderChanged(
                subject=KEY.series, study=STUDY, instance=instance, changed=("age",),
                refused=True, association="a",
            )
        )  # fmt: skip
    assert f"`scanside discard {KEY.series} --study {STUDY}`" in said(judged).remedy


def test_on_a_new_device_no_correction_waits_and_no_journal_is_made(tmp_path: Path) -> None:
    assert said(Settings(state=tmp_path)).text == "none waits"
    assert list(tmp_path.iterdir()) == []
