"""An exam whose report was committed -> its entry, image by image."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from appliance.bundle import trust
from appliance.bundle.manifest import Manifest
from appliance.compare.gather import Gathered, Gatherer
from appliance.errors import Poisoned
from appliance.naming import Naming
from appliance.phantom.chest import Phantom
from appliance.prior import packed
from appliance.prior.entry import Entry, Person
from appliance.prior.patient import NotKept
from appliance.records import Result
from appliance.report import Report, SeriesKey
from appliance.settings import Settings
from appliance.store import kept
from appliance.store.rows import ToCompare
from appliance.store.spool import Spool
from rigs.chests import Dicom
from rigs.device import Process, Seal
from rigs.reports import NAMING

STUDY, SERIES = "1.2.3", "1.2.3.4"


@dataclass(frozen=True)
class Exam:
    """One that was analysed, in a state folder."""

    settings: Settings
    files: list[Path]
    """Feet first."""
    report: Report
    result: Result
    manifest: Manifest

    def gathered(self) -> Entry | NotKept:
        digest = self.report.bundle.digest if self.report.bundle else ""
        row = ToCompare(str(self.report.report_id), STUDY, SERIES, digest, prior_only=False)
        naming: Naming = NAMING
        making = Gatherer(
            self.settings, Spool(self.settings.state), naming, lambda _: self.manifest
        )
        return making(row, self.report)

    def given(self, files: Sequence[Path], person: Person) -> Entry:
        gathered = Gathered()
        for file in files:
            gathered.add(file.read_bytes())
        found = self.result
        return gathered.entry(self.manifest, found.masks, found.scores, self.report, person)


@pytest.fixture
def exam(tmp_path: Path, dicom: Dicom, process: Process, seal: Seal, tiny_bytes: bytes) -> Exam:
    slices = dicom.chest(study_uid=STUDY, series_uid=SERIES, PatientID="A-17")
    result = process(dicom.all(slices))
    report = seal(result)
    folder = Spool(tmp_path).folder(SeriesKey(STUDY, SERIES))
    folder.mkdir(parents=True)
    files = [folder / f"{one.SOPInstanceUID}.dcm" for one in slices]
    for file, one in zip(files, slices, strict=True):
        file.write_bytes(dicom.bytes(one))
    kept.keep(tmp_path, report, result, [])
    manifest = trust.check(tiny_bytes).manifest
    return Exam(Settings(state=tmp_path), files, report, result, manifest)


def test_the_entry_has_the_same_bytes_in_whatever_order_the_images_come(exam: Exam) -> None:
    found = exam.gathered()
    assert isinstance(found, Entry)
    assert len(found.report.findings) == len(exam.report.findings) > 0
    assert {cube.finding for cube in found.cubes} >= {one.id for one in exam.report.findings}
    person = found.facts.person
    for files in (exam.files, exam.files[::-1]):
        assert packed.pack(exam.given(files, person)) == packed.pack(found)


def test_of_whom_nothing_is_kept_no_pixel_is_decoded(exam: Exam, dicom: Dicom) -> None:
    for file, one in zip(
        exam.files, dicom.chest(study_uid=STUDY, series_uid=SERIES, PatientID=""), strict=True
    ):
        one.PixelData = b"\0\0"
        file.write_bytes(dicom.bytes(one))
    found = exam.gathered()
    assert isinstance(found, NotKept)
    assert found.code == "id_missing"


def test_images_that_name_two_patients_are_not_kept(exam: Exam, dicom: Dicom) -> None:
    last = dicom.chest(study_uid=STUDY, series_uid=SERIES, PatientID="B-18")[-1]
    found = Path(exam.files[-1])
    last.SOPInstanceUID = last.file_meta.MediaStorageSOPInstanceUID = found.stem
    found.write_bytes(dicom.bytes(last))
    told = exam.gathered()
    assert isinstance(told, NotKept)
    assert told.code == "ids_differ"


@pytest.mark.parametrize(
    "lost", ["an image", "half an image", "the list", "the scores", "the lungs"]
)
def test_what_is_not_there_any_more_is_told(exam: Exam, lost: str) -> None:
    beside = exam.settings.state / kept.FOLDER / str(exam.report.report_id)
    if lost == "an image":
        exam.files[7].unlink()
    elif lost == "half an image":
        exam.files[7].write_bytes(exam.files[7].read_bytes()[:-999])
    elif lost == "the list":
        (beside / "images.json").unlink()
    elif lost == "the scores":
        (beside / "images.json").write_text(json.dumps(exam.result.facts.images))
    else:
        (beside / "lungs.npz").unlink()
    with pytest.raises(Poisoned):
        exam.gathered()


def test_of_a_series_its_pixels_are_held_once_as_they_were_decoded(dicom: Dicom) -> None:
    hu = np.random.default_rng(3).integers(-900, 100, (48, 256, 256)).astype(np.int16)
    slices = dicom.series(
        Phantom(hu, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ()), study_uid=STUDY, series_uid=SERIES
    )
    each = hu.nbytes / len(hu)
    first, *others = slices
    gathered = Gathered()
    gathered.add(dicom.bytes(first))  # it brings what is made once
    tracemalloc.start()
    try:
        for one in others:
            gathered.add(dicom.bytes(one))
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(gathered.said) == len(hu)
    assert held < 1.1 * each * len(others)
    assert most - held < 12 * each
