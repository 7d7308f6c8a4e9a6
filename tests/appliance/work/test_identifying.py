"""Who the patient is, as the header of the series says."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from appliance.report import SeriesKey
from appliance.store import identities
from appliance.store.identities import Person
from appliance.store.spool import Spool
from appliance.work.identifying import identify, person_of

KEY = SeriesKey("1.2", "1.2.3")
REPORT = uuid.UUID(int=1)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """name, id, birth date, character set -> a file with just these."""

    def made(
        name: object, number: str = "4711", born: str = "19600229", charset: object = "ISO_IR 192"
    ) -> Path:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SpecificCharacterSet = charset
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3.4"
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = name, number, born
        path = tmp_path / "1.2.3.4.dcm"
        ds.save_as(path, enforce_file_format=True)
        return path

    return made


@pytest.mark.parametrize(
    ("name", "charset", "shown"),
    [
        ("Doe^Jane^Ann^Dr", "ISO_IR 192", "Doe, Jane Ann"),
        ("Wang^XiaoDong=王^小东", "GB18030", "王, 小东 (Wang, XiaoDong)"),
        ("Müller", "ISO_IR 100", "Müller"),
        ("^Jane", "ISO_IR 192", "Jane"),
        ("", "ISO_IR 192", ""),
    ],
)
def test_a_name_is_shown_as_a_person_reads_it(
    write: Write, name: str, charset: str, shown: str
) -> None:
    person = person_of([write(name, charset=charset)])
    assert person == Person(name=shown, patient_id="4711", birth_date="1960-02-29")


def test_a_file_that_cannot_be_read_leaves_it_to_the_next_one(tmp_path: Path, write: Write) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"no DICOM")
    assert person_of([broken, tmp_path / "gone.dcm"]) is None
    assert person_of([broken, write("Doe^Jane")]) is not None


def test_it_is_kept_once_beside_the_report_and_its_absence_stops_nothing(
    tmp_path: Path, write: Write
) -> None:
    state = tmp_path / "state"
    spool = Spool(state)
    identify(state, spool, KEY, REPORT)  # no image is left
    assert identities.read(state, REPORT) is None
    folder = spool.folder(KEY)
    folder.mkdir(parents=True)
    write("Doe^Jane").rename(folder / "1.2.3.4.dcm")
    identify(state, spool, KEY, REPORT)
    write("Other^Name").replace(folder / "1.2.3.4.dcm")
    identify(state, spool, KEY, REPORT)
    found = identities.read(state, REPORT)
    assert found is not None
    assert found.name == "Doe, Jane"


def test_a_disk_that_takes_nothing_costs_the_name_alone(tmp_path: Path, write: Write) -> None:
    spool = Spool(tmp_path / "state")
    folder = spool.folder(KEY)
    folder.mkdir(parents=True)
    write("Doe^Jane").rename(folder / "1.2.3.4.dcm")
    (tmp_path / "state" / identities.FOLDER).write_text("a file where the folder should be")
    identify(tmp_path / "state", spool, KEY, REPORT)
    assert identities.read(tmp_path / "state", REPORT) is None
