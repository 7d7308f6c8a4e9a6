"""How a series may arrive, and that the same is said of it whichever way it came."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, JPEGLSLossless, RLELossless, generate_uid

from appliance.report import Report, Stage, Status
from rigs.scans import Scan, Scans
from rigs.site import Site

RLE = ("dcmcrle",)
JPEG_LS = ("dcmcjpls", "+el")
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def test_a_series_over_one_association_is_received_preliminary_complete_and_analysed(
    site: Site, scans: Scans, record_testsuite_property: Callable[[str, object], None]
) -> None:
    scan = scans.make()
    with site.held() as store:
        store(scan.files)
        site.until(lambda: site.events(scan, "preliminary"), "preliminary")
    report = site.report(scan)
    site.until(lambda: len(site.events(scan, "checked")) == 2, "a check of each stage")
    names = [event["event"] for event in site.events(scan)]
    assert names == ["received", "preliminary", "checked", "complete", "analysed", "checked"]
    assert (report.status, report.stage, report.revision) == (Status.ANALYSED, Stage.FINAL, 1)
    assert report.coverage.lungs == "covered"
    assert report.bundle is not None
    assert report.bundle.name == "lung-nodule"
    assert report.findings
    assert [f["finding"]["id"] for f in site.findings(report)] == [f.id for f in report.findings]
    early = Report.model_validate(site.events(scan, "preliminary")[0]["report"])
    assert early.same_as(report.model_copy(update={"stage": Stage.PRELIMINARY}))
    times = report.times
    assert times.last_slice
    assert times.inferred
    assert times.complete
    assert times.inferred < times.complete, "one inference, before the verdict"
    with site.journal() as journal:
        assert journal.reports.get(report.report_id) == report
        event = site.events(scan, "analysed")[0]
        site.until(
            lambda: journal.owed.delivered_at("mqtt", event["event_id"]), "PUBACK in the journal"
        )
        early_event = site.events(scan, "preliminary")[0]["event_id"]
        delivered = journal.owed.delivered_at("mqtt", early_event)
    assert delivered
    delay = delivered - times.last_slice.timestamp()
    record_testsuite_property("last_slice_to_puback_of_preliminary_s", round(delay, 3))
    kept = np.load(site.settings.state / "reports" / str(report.report_id) / "lungs.npz")
    voxels = np.unpackbits(kept["voxels"])[: np.prod(kept["shape"])]
    assert voxels.sum() * np.prod(kept["spacing_mm"]) / 1000 > 1000, "two lungs, in ml"


def test_messages_obey_their_schemas_and_count_upwards(site: Site, scans: Scans) -> None:
    scan = scans.make()
    assert site.send(scan) == 0
    site.report(scan)
    known = {
        path.name.split(".")[0].removeprefix("message-"): jsonschema.Draft202012Validator(
            json.loads(path.read_text())
        )
        for path in SCHEMAS.glob("message-*.json")
    }
    kinds = Counter()  # type: Counter[str]
    for _, message in site.messages():
        known[message["type"]].validate(message)
        kinds[message["type"]] += 1
    assert {"status", "info", "study", "finding"} <= kinds.keys()
    owed = [m["seq"] for t, m in site.messages() if "/study/" in t or "/finding/" in t]
    assert owed == sorted(owed)
    assert len(set(owed)) == len(owed)


@pytest.fixture(scope="module")
def said(site: Site, scans: Scans) -> tuple[Scan, Report]:
    """A series that was sent uncompressed, and its report."""
    scan = scans.make()
    assert site.send(scan) == 0
    return scan, site.report(scan)


def test_from_disk_the_report_is_the_same(site: Site, said: tuple[Scan, Report]) -> None:
    scan, report = said
    (other,) = site.analyze(scan.folder)
    assert other.same_as(report)


@pytest.mark.parametrize(
    "recode",
    [
        pytest.param(RLE, id="RLE", marks=pytest.mark.long),
        pytest.param(JPEG_LS, id="JPEG-LS"),
    ],
)
def test_from_a_compressed_copy_the_report_is_the_same(
    site: Site, scans: Scans, said: tuple[Scan, Report], recode: tuple[str, ...]
) -> None:
    scan, report = said
    (other,) = site.analyze(scans.recoded(scan, *recode).folder)
    assert other.same_as(report)


def test_sent_again_in_any_transfer_syntax_nothing_new_is_said(
    site: Site, scans: Scans, said: tuple[Scan, Report]
) -> None:
    scan, report = said
    before = site.names(scan), len(site.findings(report))
    assert site.send(scan) == 0
    assert site.send(scans.recoded(scan, *RLE), options=["-xr"]) == 0
    assert site.send(scans.recoded(scan, *JPEG_LS), options=["-xt"]) == 0
    other = scans.make()  # its report comes after anything that the resend might have led to
    site.send(other)
    site.report(other)
    assert (site.names(scan), len(site.findings(report))) == before
    with site.journal() as journal:
        assert journal.reports.latest(scan.key) == report


@pytest.mark.parametrize(
    ("syntax", "option"), [(RLELossless, "-xr"), (JPEGLSLossless, "-xt")], ids=["RLE", "JPEG-LS"]
)
def test_sent_compressed_the_report_is_that_of_the_files_on_disk(
    site: Site, scans: Scans, syntax: str, option: str
) -> None:
    def compressed(image: Dataset, _: int) -> Dataset:
        image.compress(syntax, generate_instance_uid=False)
        return image

    scan = scans.make(compressed)
    assert site.send(scan, options=[option]) == 0
    report = site.report(scan)
    assert report.status is Status.ANALYSED
    (other,) = site.analyze(scan.folder)
    assert other.same_as(report)


def as_one_multi_frame_image(scan: Scan, folder: Path) -> Path:
    """An Enhanced CT of the same slices: place and rescale are those of each frame."""
    images = [dcmread(path) for path in scan.files]
    whole = copy.deepcopy(images[0])
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    whole.StudyInstanceUID, whole.SeriesInstanceUID = generate_uid(), generate_uid()
    whole.NumberOfFrames = len(images)
    whole.PixelData = b"".join(image.PixelData for image in images)
    per_frame = []
    for image in images:
        frame, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = image.ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept = image.RescaleSlope, image.RescaleIntercept
        values.RescaleType = "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [values]
        per_frame.append(frame)
    shared, lies, measures = Dataset(), Dataset(), Dataset()
    lies.ImageOrientationPatient = images[0].ImageOrientationPatient
    measures.PixelSpacing = images[0].PixelSpacing
    measures.SliceThickness = images[0].SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [lies], [measures]
    whole.SharedFunctionalGroupsSequence = [shared]
    whole.PerFrameFunctionalGroupsSequence = per_frame
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                 "SliceThickness", "RescaleSlope", "RescaleIntercept"):  # fmt: skip
        del whole[name]
    folder.mkdir()
    whole.save_as(folder / "whole.dcm", enforce_file_format=True)
    return folder


def test_a_multi_frame_image_is_a_whole_series_with_the_same_findings(
    site: Site, said: tuple[Scan, Report], tmp_path: Path
) -> None:
    scan, report = said
    folder = as_one_multi_frame_image(scan, tmp_path / "enhanced")
    image = dcmread(folder / "whole.dcm", stop_before_pixels=True)
    assert site.send(folder) == 0
    whole = replace(scan, study=image.StudyInstanceUID, series=image.SeriesInstanceUID)
    other = site.report(whole)
    assert other.status is Status.ANALYSED
    assert other.series.slices == report.series.slices
    assert [f.center_lps_mm for f in other.findings] == [f.center_lps_mm for f in report.findings]
    (from_disk,) = site.analyze(folder)
    assert from_disk.same_as(other)


NAMES = {
    "GB18030": ("GB18030", "王^小东"),
    "ISO 2022 IR 87": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    "ISO 2022 IR 149": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_in_other_scripts_arrive_are_analysed_and_stay_on_the_device(
    site: Site, scans: Scans, name: str
) -> None:
    charset, person = NAMES[name]

    def named(image: Dataset, _: int) -> Dataset:
        image.SpecificCharacterSet = charset
        image.PatientName = image.ReferringPhysicianName = person
        return image

    scan = scans.make(named)
    assert site.send(scan) == 0
    assert site.report(scan).status is Status.ANALYSED
    said = json.dumps(site.events(scan), ensure_ascii=False)
    assert not [part for part in person.replace("=", "^").split("^") if part in said]
