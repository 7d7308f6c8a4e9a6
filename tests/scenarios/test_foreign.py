"""Images that do not belong to their series, over real C-STORE: before the verdict and after."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from appliance.reasons import Code
from appliance.report import Report, Stage, Status
from appliance.store.events import ImagesSetAside
from appliance.verbs.checks import state
from appliance.verbs.checks.check import Device
from rigs.scans import Scan, Scans
from rigs.site import Site


def sane(image: Dataset, _: int) -> Dataset:
    image.PatientID = "PID-1"
    return image


def beside(scan: Scan, number: int, folder: Path, **tags: object) -> Path:
    """Another image under the UIDs of this series, made of its first one."""
    image = deepcopy(dcmread(scan.files[0]))
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = (
        f"{scan.series[:40]}.{number}"
    )
    image.InstanceNumber = number
    for name, value in tags.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:04d}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def capture(scan: Scan, number: int, folder: Path, **tags: object) -> Path:
    """A picture of a screen, filed under the series."""
    said: dict[str, object] = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "ImageType": ["DERIVED", "SECONDARY"],
        "Modality": "OT",
        "ImagePositionPatient": None,
        "FrameOfReferenceUID": None,
    }
    return beside(scan, number, folder, **(said | tags))


def many_foreign(scan: Scan, folder: Path) -> None:
    """A scout, a dose screen, a capture, a cut image and one without pixels."""
    beside(scan, 901, folder, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    beside(scan, 902, folder, ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
    capture(scan, 903, folder)
    half = len(dcmread(scan.files[0]).PixelData) // 2
    beside(scan, 904, folder, PixelData=bytes(half))
    beside(scan, 905, folder, PixelData=None)


def said(report: Report) -> list[Code]:
    return [reason.code for reason in report.limitations]


def test_five_foreign_images_in_one_series_change_nothing_that_is_found(
    site: Site, scans: Scans, tmp_path: Path
) -> None:
    plain = scans.make(sane)
    whole = scans.make(sane, study=plain.study)
    many_foreign(whole, tmp_path / "foreign")
    for path in whole.files:  # the foreign ones come first, in the same association
        (tmp_path / "foreign" / path.name).write_bytes(path.read_bytes())
    assert site.send(tmp_path / "foreign") == 0
    report = site.report(whole)
    assert report.status is Status.ANALYSED
    aside = report.limitations[0]
    assert aside.code is Code.SET_ASIDE_IMAGES
    assert all(f"image {number}" in aside.text for number in range(901, 906))
    (from_disk,) = site.analyze(tmp_path / "foreign")
    assert from_disk.same_as(report)
    assert from_disk.limitations == report.limitations
    (alone,) = site.analyze(whole.folder)
    assert alone.same_as(report)
    assert len(alone.findings) == len(report.findings) > 0
    assert Code.SET_ASIDE_IMAGES not in said(alone)


def test_a_capture_after_the_final_report_is_an_event_and_withdraws_nothing(
    site: Site, scans: Scans, tmp_path: Path
) -> None:
    scan = scans.make(sane)
    assert site.send(scan) == 0
    first = site.report(scan)
    site.settled()
    before = site.events(scan)
    late = capture(scan, 950, tmp_path / "late", PatientID="PID-1")
    assert site.send(late) == 0

    def event() -> list[str]:
        with site.journal() as journal:
            found = journal.events.of(ImagesSetAside)
        return [one.event.text for one in found if one.event.subject == scan.series]

    (text,) = site.until(event, "event")
    assert "image 950" in text
    site.settled()
    assert [one["event"] for one in site.events(scan)] == [one["event"] for one in before]
    with site.journal() as journal:
        reports = [r for r in journal.reports.of_study(scan.study) if r.stage is Stage.FINAL]
        row = journal.series.get(scan.key)
    assert reports == [first]
    assert row is not None
    assert (row.state, row.instances) == ("analysed", len(scan.files) + 1)
    shown = state.images(Device(site.settings, str(site.config)))
    assert "image 950" in shown.text


def test_an_image_of_another_patient_after_the_final_report_takes_it_back(
    site: Site, scans: Scans, tmp_path: Path
) -> None:
    scan = scans.make(sane)
    assert site.send(scan) == 0
    first = site.report(scan)
    late = capture(scan, 950, tmp_path / "late", PatientID="PID-2")
    assert site.send(late) == 0
    second = Report.model_validate(site.ending(scan, 2)["report"])
    assert second.status is Status.NOT_ANALYSED
    assert [reason.code for reason in second.reasons] == [Code.MIXED_SERIES]
    assert (second.revision, second.supersedes) == (2, first.report_id)


@pytest.mark.parametrize("turned", [False, True])
def test_two_acquisitions_that_adjoin_are_one_report_in_any_order(
    site: Site, scans: Scans, tmp_path: Path, turned: bool
) -> None:
    def acquired(image: Dataset, index: int) -> Dataset:
        image.AcquisitionNumber = 3 if index < 25 else 2
        return image

    scan = scans.make(acquired)
    files = scan.files[::-1] if turned else scan.files
    for index, path in enumerate(files):
        (tmp_path / f"{index:04d}.dcm").write_bytes(path.read_bytes())
    assert site.send(tmp_path) == 0
    report = site.report(scan)
    assert report.status is Status.ANALYSED
    assert Code.JOINED_ACQUISITIONS in said(report)
    assert report.series.slices == len(scan.files)
    (from_disk,) = site.analyze(scan.folder)
    assert from_disk.same_as(report)
