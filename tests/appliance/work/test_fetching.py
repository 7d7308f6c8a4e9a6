"""When an exam begins its patient's earlier ones are asked for, once, and of nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from appliance.settings import Query
from appliance.store import fetching
from appliance.store.fetching import FOLDER, Wanted
from appliance.store.journal import Journal
from rigs.chests import Dicom
from rigs.device import Device
from rigs.exams import Room

QUERY = Query(name="pacs", address="PACS@192.0.2.30:104")
Asked = Callable[[], list[Wanted | None]]


@pytest.fixture
def room(ready_site: Device, dicom: Dicom) -> Iterator[Room]:
    with Journal.open(ready_site.settings.state) as journal:
        made = Room(ready_site, dicom, journal)
        priors = made.settings.priors.model_copy(update={"query": (QUERY,), "dummies": ("E-1",)})
        made.settings = made.settings.model_copy(update={"priors": priors})
        yield made


@pytest.fixture
def asked(room: Room) -> Asked:
    state = room.settings.state
    return lambda: [fetching.read(path) for path in fetching.waiting(state)]


def test_an_exam_of_the_chest_asks_once_for_all_its_images(room: Room, asked: Asked) -> None:
    room.send("1.2.1", "CT1", last=20, PatientID=" a12 ", IssuerOfPatientID="here")
    room.judge()
    assert asked() == [Wanted(patient_id="a12", issuer="here", study="1.2.1")]
    assert room.said("1.2.1")[:2] == ["received", "complete"]


def test_an_earlier_exam_that_an_archive_sends_asks_for_none(room: Room, asked: Asked) -> None:
    room.send("1.2.1", "ARCHIVE", PatientID="a12")
    room.judge()
    assert asked() == []


@pytest.mark.parametrize("patient_id", ["", "ANONYMOUS", "000", "e-1", "a\\b"])
def test_an_id_that_is_nobodys_is_asked_for_nowhere(
    room: Room, asked: Asked, patient_id: str
) -> None:
    room.send("1.2.1", "CT1", PatientID=patient_id)
    room.judge()
    assert asked() == []


def test_without_an_archive_nothing_is_written_and_what_lay_there_goes(
    room: Room, asked: Asked
) -> None:
    fetching.ask(room.settings.state, Wanted(patient_id="b13", study="1.2.0"))
    priors = room.settings.priors.model_copy(update={"query": ()})
    room.settings = room.settings.model_copy(update={"priors": priors})
    room.send("1.2.1", "CT1", PatientID="a12")
    room.judge()
    assert asked() == []


def test_a_request_that_cannot_be_written_costs_the_earlier_exams_alone(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    (room.settings.state / FOLDER).write_text("a file where the folder should be")
    room.send("1.2.1", "CT1", PatientID="a12")
    room.judge()
    assert room.report("1.2.1").findings is not None
    assert "no earlier exams are asked for" in caplog.text
    assert "a12" not in caplog.text
