"""What is noted for comparing, and of which studies nothing is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.compare.child import built
from appliance.report import SeriesKey
from appliance.results import mqtt
from appliance.retain.stage import run_once
from appliance.store.journal import Journal
from appliance.store.priors import Priors
from rigs.chests import Dicom
from rigs.device import Device
from rigs.exams import Room


@pytest.fixture
def room(ready_site: Device, dicom: Dicom) -> Iterator[Room]:
    with Journal.open(ready_site.settings.state) as journal:
        yield Room(ready_site, dicom, journal)


def test_an_exam_is_noted_with_its_report_and_compared_after_its_findings_were_said(
    room: Room,
) -> None:
    room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    first = room.report("1.2.1")
    row = room.journal.comparisons.row(first.report_id)
    assert row is not None
    assert (row.state, row.prior_only) == ("waiting", False)
    assert [one.owed for one in room.journal.kept()] == [len(room.said("1.2.1"))], (
        "it holds no image"
    )
    built(room.settings, room.journal).run()
    assert room.said("1.2.1")[-1] == "not_compared"
    assert len(Priors(room.settings.state).all()) == 1
    room.send("1.2.2", "CT1", PatientID="a12", AcquisitionDate="20250101", shift_hu=1)
    room.judge()
    built(room.settings, room.journal).run()
    (now,) = room.journal.comparisons.standing(room.report("1.2.2").report_id)
    assert now.prior is not None
    assert (now.prior.report_id, now.prior.interval_days) == (first.report_id, 366)
    assert {"a12", "A12"}.isdisjoint(now.model_dump_json().split('"'))


def test_an_exam_without_an_id_of_a_person_is_kept_nowhere(room: Room) -> None:
    room.send("1.2.1", "CT1", PatientID="ANONYMOUS")
    room.judge()
    built(room.settings, room.journal).run()
    (said,) = room.journal.comparisons.standing(room.report("1.2.1").report_id)
    assert [one.code.value for one in said.reasons] == ["no_patient_id"]
    assert Priors(room.settings.state).all() == ()


def test_of_a_study_that_an_archive_pushed_nothing_is_said_and_its_entry_is_kept(
    room: Room,
) -> None:
    room.send("1.2.1", "ARCHIVE", PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    row = room.journal.comparisons.row(room.report("1.2.1").report_id)
    assert row is not None
    assert row.prior_only
    built(room.settings, room.journal).run()
    assert room.said("1.2.1") == []
    assert len(Priors(room.settings.state).all()) == 1


def test_one_image_from_the_scanner_makes_it_an_exam_like_any_other(room: Room) -> None:
    room.send("1.2.1", "ARCHIVE", last=20, PatientID="a12", AcquisitionDate="20240101")
    room.send("1.2.1", "CT1", first=20, PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    assert room.said("1.2.1")[:3] == ["received", "complete", "analysed"]
    row = room.journal.comparisons.row(room.report("1.2.1").report_id)
    assert row is not None
    assert not row.prior_only


def test_what_the_scanner_sends_after_the_archive_is_said_after_all(room: Room) -> None:
    room.send("1.2.1", "ARCHIVE", PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    built(room.settings, room.journal).run()
    assert room.said("1.2.1") == []
    room.arrive("1.2.1", "CT1", 0)  # as `receive` notes what it has already
    room.judge()
    events = room.said("1.2.1")
    findings = len(room.report("1.2.1").findings)
    assert events.count("analysed") == 1
    assert events.count("finding") + events.count("findings") >= min(1, findings)
    assert room.journal.series.silent("1.2.1") == []
    built(room.settings, room.journal).run()
    (said,) = room.journal.comparisons.standing(room.report("1.2.1").report_id)
    assert [one.code.value for one in said.reasons] == ["no_prior"]


def test_nobody_is_silenced_where_it_is_not_known_who_sent_a_part_of_the_study(
    room: Room,
) -> None:
    room.send("1.2.1", "ARCHIVE", PatientID="a12", AcquisitionDate="19990101")
    room.journal.series.set(SeriesKey("1.2.1", "1.2.1.9"), "set_aside", instances=1)
    room.judge()
    assert "analysed" in room.said("1.2.1")


def test_where_the_site_keeps_no_exams_nothing_is_noted(room: Room) -> None:
    priors = room.settings.priors.model_copy(update={"keep": False})
    room.settings = room.settings.model_copy(update={"priors": priors})
    room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    assert room.journal.comparisons.row(room.report("1.2.1").report_id) is None
    assert not room.journal.comparisons.any()


def test_a_disk_that_is_short_takes_the_images_of_an_exam_that_was_not_compared_yet(
    room: Room,
) -> None:
    room.send("1.2.1", "CT1", PatientID="a12", AcquisitionDate="20240101")
    room.judge()
    keys = [row.key for row in room.journal.owed.waiting(mqtt.MQTT, 99)]
    room.journal.owed.ack(mqtt.MQTT, keys)
    short = room.settings.retain.model_copy(update={"target_free_mb": 10**9})
    assert run_once(room.settings.model_copy(update={"retain": short})).series == 1
    assert not room.journal.comparisons.any()
    assert built(room.settings, room.journal).run() == 0
