"""An exam whose images are here becomes an entry, or nobody's, through the real child."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset

from appliance.compare.child import built
from appliance.report import SeriesKey, Status
from appliance.results import mqtt
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from appliance.verbs import priors as verb
from appliance.verbs.discard import discard
from rigs.chests import Dicom
from rigs.device import Device
from rigs.exams import Room

ID, BORN, THEN, NOW = "PAT-77-4411", "19470511", "20240213", "20250317"


@pytest.fixture
def room(ready_site: Device, dicom: Dicom) -> Iterator[Room]:
    with Journal.open(ready_site.settings.state) as journal:
        yield Room(ready_site, dicom, journal)


def store(room: Room, image: Dataset) -> None:
    temp = room.spool.incoming_path()
    temp.write_bytes(room.dicom.bytes(image))
    uids = image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID
    room.spool.store(temp, *uids, lambda *_: True)


def codes(room: Room, study: str) -> list[str]:
    """Why the exam of a study was not compared."""
    standing = room.journal.comparisons.standing(room.report(study).report_id)
    return [reason.code.value for one in standing for reason in one.reasons]


@pytest.mark.parametrize("other", ["PAT-77-4412", "pat-77-4411"])
def test_of_a_study_whose_series_name_two_patients_nothing_is_kept(room: Room, other: str) -> None:
    room.send("1.2.1", "CT1", PatientID=ID, AcquisitionDate=THEN)
    (scout,) = room.dicom.chest(study_uid="1.2.1", series_uid="1.2.1.9", PatientID=other)[:1]
    store(room, scout)
    room.judge()
    built(room.settings, room.journal).run()
    assert codes(room, "1.2.1") == ["no_patient_id"]
    assert Priors(room.settings.state).all() == ()


def test_of_a_series_of_which_one_late_image_names_another_patient_nothing_is_kept(
    room: Room,
) -> None:
    room.send("1.2.1", "CT1", last=23, PatientID=ID, AcquisitionDate=THEN)
    room.send("1.2.1", "CT1", first=23, PatientID="PAT-77-4412", AcquisitionDate=THEN)
    room.judge()
    built(room.settings, room.journal).run()
    report = room.journal.reports.latest(SeriesKey("1.2.1", "1.2.1.1"))
    assert report is not None
    assert report.status is Status.NOT_ANALYSED
    assert room.journal.comparisons.row(report.report_id) is None
    assert Priors(room.settings.state).all() == ()


def test_an_exam_that_was_discarded_and_sent_again_under_another_id_leaves_the_first_person(
    room: Room,
) -> None:
    """Its pixels are the same, and so is its report: only the patient was another one."""
    room.send("1.2.1", "CT1", PatientID="WRONG", AcquisitionDate=THEN)
    room.send("1.2.2", "CT1", PatientID="WRONG", AcquisitionDate=NOW, shift_hu=1)
    room.judge()
    built(room.settings, room.journal).run()
    first = room.report("1.2.1").report_id
    assert discard(room.settings, "1.2.1.1") == 24
    assert [one.report_id for one in Priors(room.settings.state).all()] != []
    assert first not in {one.report_id for one in Priors(room.settings.state).all()}
    built(room.settings, room.journal).run()
    assert codes(room, "1.2.2") == ["no_prior"], "it was compared with another person's"
    room.send("1.2.1", "CT1", PatientID=ID, AcquisitionDate=THEN)
    room.judge()
    assert room.report("1.2.1").report_id == first
    built(room.settings, room.journal).run()
    kept = {one.report_id: one.person for one in Priors(room.settings.state).all()}
    assert len(kept) == len(set(kept.values())) == 2
    assert verb.forget(room.settings, ID, None, "me")[0] == 1


def test_who_was_forgotten_is_not_kept_again_from_images_that_are_still_here(room: Room) -> None:
    room.send("1.2.1", "CT1", PatientID=ID, AcquisitionDate=THEN)
    room.judge()
    built(room.settings, room.journal).run()
    assert verb.forget(room.settings, ID, None, "me") == (1, 1)
    assert room.spool.instances(SeriesKey("1.2.1", "1.2.1.1")), "its images are not forgotten"
    for _ in range(2):
        assert built(room.settings, room.journal).run() == 0
    assert Priors(room.settings.state).all() == ()


def test_no_message_and_no_line_of_a_log_says_whose_exams_they_are_or_when_they_were(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    person = {"PatientID": ID, "IssuerOfPatientID": "HOUSE-9", "PatientBirthDate": BORN}
    room.send("1.2.1", "CT1", AcquisitionDate=THEN, **person)
    room.send("1.2.2", "CT1", AcquisitionDate=NOW, shift_hu=1, **person)
    room.send("1.2.3", "CT1", AcquisitionDate=NOW, shift_hu=2, PatientID=ID + "\\B")
    room.judge()
    caplog.clear()
    built(room.settings, room.journal).run()
    (entry,) = {one.person for one in Priors(room.settings.state).all()}
    rows = room.journal.owed.waiting(mqtt.MQTT, 999)
    said = [mqtt.Envelope.stored(row.body or b"") for row in rows]
    texts = [f"{one.topic} {one.payload}" for one in said] + [
        r.getMessage() for r in caplog.records
    ]
    assert sum('"comparison"' in text for text in texts) == 3
    assert caplog.records
    hidden = [ID, "HOUSE-9", BORN, THEN, NOW, "1.2.1", "1.2.2", "1.2.3", entry]
    hidden += ["2024-02-13", "2025-03-17", room.settings.state.as_posix()]
    assert not [(word, text) for word in hidden for text in texts if word in text]
