"""What is not analysed says so, with its reason: it can never be read as a negative."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import SecondaryCaptureImageStorage

from appliance.reasons import Code
from appliance.report import Report, Status
from appliance.store.events import AssociationRefused
from rigs.scans import Scan, Scans
from rigs.site import Site


def head(image: Dataset, index: int) -> Dataset:
    """A skull with noisy tissue in it (without the skull it were a phantom), and no word about the
    body part."""
    del image.BodyPartExamined
    rows = int(image.Rows)
    y, x = np.mgrid[:rows, :rows] - rows / 2
    away = np.hypot(y, x) * float(image.PixelSpacing[0])
    shown = np.select([away < 82, away < 90], [40, 900], -1000)
    noise = np.random.default_rng(index).normal(0, 5, away.shape)
    image.PixelData = (shown + noise + 1024).astype("<i2").tobytes()
    return image


def named_head(image: Dataset, index: int) -> Dataset:
    image = head(image, index)
    image.BodyPartExamined = "HEAD"
    return image


def animal(image: Dataset, _: int) -> Dataset:
    image.PatientSpeciesDescription = "Canine"
    return image


def without_intercept(image: Dataset, _: int) -> Dataset:
    image.RescaleIntercept = 0
    return image


def tilted(image: Dataset, index: int) -> Dataset:
    x, y, z = image.ImagePositionPatient
    image.ImagePositionPatient = [x, round(float(y) + 1.3 * index, 3), z]
    return image


def single(image: Dataset, index: int) -> Dataset | None:
    return image if index == 30 else None


def gap(image: Dataset, index: int) -> Dataset | None:
    return None if 30 <= index < 34 else image


def no_rescale(image: Dataset, index: int) -> Dataset:
    if index in (7, 20):
        del image.RescaleSlope
        del image.RescaleIntercept
    return image


def mixed_sizes(image: Dataset, index: int) -> Dataset:
    if index == 12:
        image.Rows = int(image.Rows) // 2
        image.PixelData = image.PixelData[: len(image.PixelData) // 2]
    return image


def magnetic(image: Dataset, _: int) -> Dataset:
    image.Modality = "MR"
    return image


def image_type(*values: str) -> Callable[[Dataset, int], Dataset | None]:
    def change(image: Dataset, index: int) -> Dataset | None:
        image.ImageType = list(values)
        return image if index < 3 else None

    return change


def captured(image: Dataset, index: int) -> Dataset | None:
    image.SOPClassUID = SecondaryCaptureImageStorage
    image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    return image if index < 3 else None


def raw(tag: int, vr: str, value: bytes, index: int = 12) -> Callable[[Dataset, int], Dataset]:
    """One image of the series has this element, written unchecked."""

    def change(image: Dataset, at: int) -> Dataset:
        if at == index:
            image[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
        return image

    return change


def absurd(image: Dataset, index: int) -> Dataset:
    """One image claims the most rows and columns that there can be."""
    if index == 12:
        image.Rows = image.Columns = 65535
    return image


def broken_off(image: Dataset, index: int) -> Dataset:
    """Whole data sets that hold half of the pixels of their images, more than a tenth of all."""
    if index % 4 == 0:
        image.PixelData = image.PixelData[: len(image.PixelData) // 2]
    return image


CASES: dict[str, tuple[Callable[[Dataset, int], Dataset | None], Code, str]] = {
    "a head without a body part": (head, Code.NO_LUNGS, "refused"),
    "a head by name": (named_head, Code.BODY_PART, "refused"),
    "an animal": (animal, Code.SPECIES, "refused"),
    "HU 1024 too high": (without_intercept, Code.SUSPECT_HU, "refused"),
    "tilted": (tilted, Code.GANTRY_TILT, "refused"),
    "a single slice": (single, Code.TOO_FEW_SLICES, "refused"),
    "a gap": (gap, Code.GAP_TOO_WIDE, "refused"),
    "images without rescale": (no_rescale, Code.MISSING_RESCALE, "refused"),
    "mixed sizes": (mixed_sizes, Code.MIXED_SIZE, "refused"),
    "half of the pixels": (broken_off, Code.MISSING_PIXELS, "refused"),
    "a position of another VR": (
        raw(0x00200032, "LO", b"left\\back\\up "),
        Code.INVALID_VALUE,
        "refused",
    ),
    "NaN as a position": (raw(0x00200032, "DS", b"nan\\nan\\nan "), Code.INVALID_VALUE, "refused"),
    "negative pixel spacing": (raw(0x00280030, "DS", b"-2.8\\2.8"), Code.INVALID_VALUE, "refused"),
    "65535 x 65535 pixels": (absurd, Code.TOO_LARGE, "refused"),
    "a claim of 65,535 frames": (raw(0x00280008, "IS", b"65535 "), Code.TOO_LARGE, "refused"),
    "another modality": (magnetic, Code.MODALITY, "refused"),
    "a localizer": (image_type("ORIGINAL", "PRIMARY", "LOCALIZER"), Code.LOCALIZER, "set_aside"),
    "an iodine map": (
        image_type("DERIVED", "PRIMARY", "AXIAL", "IODINE"),
        Code.OTHER_QUANTITY,
        "set_aside",
    ),
    "an MPR": (image_type("DERIVED", "SECONDARY", "MPR"), Code.REFORMATTED, "set_aside"),
    "a secondary capture": (captured, Code.SECONDARY_CAPTURE, "set_aside"),
}


@pytest.fixture(scope="module")
def sent(site: Site, scans: Scans) -> dict[str, Scan]:
    """All of them, over one association."""
    made = {name: scans.make(change, under="refused") for name, (change, _, _) in CASES.items()}
    assert site.send(*made.values()) == 0
    return made


@pytest.fixture(scope="module")
def from_disk(site: Site, sent: dict[str, Scan]) -> list[Report]:
    """What `scanside analyze` says of them."""
    reports: list[Report] = site.analyze(sent["tilted"].folder.parent)
    return reports


@pytest.mark.parametrize("name", CASES)
def test_it_is_not_analysed_and_says_why(
    site: Site, sent: dict[str, Scan], from_disk: list[Report], name: str
) -> None:
    scan, (_, code, state) = sent[name], CASES[name]
    event = site.ending(scan)
    report = Report.model_validate(event["report"])
    assert event["event"] == "not_analysed"
    assert report.status is Status.NOT_ANALYSED
    assert code in {reason.code for reason in report.reasons}
    assert event["reasons"] == event["report"]["reasons"]
    assert report.findings == ()
    assert not site.findings(report)
    assert not site.events(scan, "preliminary")
    with site.journal() as journal:
        row = journal.series.get(scan.key)
    assert row
    assert row.state == state
    assert [other.same_as(report) for other in from_disk].count(True) == 1


def test_a_sender_that_no_setting_names_is_rejected_and_the_log_says_what_to_change(
    site: Site, scans: Scans
) -> None:
    scan = scans.make(single)
    assert site.send(scan, ae="STRANGER") != 0
    with site.journal() as journal:
        refused = site.until(lambda: journal.events.of(AssociationRefused, 1), "journal event")
        assert journal.series.get(scan.key) is None
    assert 'add [[dicom.allow]] ae_title = "STRANGER"' in refused[0].event.remedy
    assert 'add [[dicom.allow]] ae_title = "STRANGER"' in site.log()


@pytest.mark.parametrize(
    "order", [pytest.param(1, marks=pytest.mark.long), -1], ids=["first", "last"]
)
def test_one_image_of_another_body_part_refuses_the_series_whenever_it_comes(
    site: Site, scans: Scans, order: int
) -> None:
    def other(image: Dataset, index: int) -> Dataset:
        image = copy.deepcopy(image)
        if index == 0:
            image.BodyPartExamined = "HEAD"
        return image

    scan = scans.make(other)
    with site.held() as store:
        store(scan.files[::order])
    for report in (Report.model_validate(site.ending(scan)["report"]), *site.analyze(scan.folder)):
        assert report.status is Status.NOT_ANALYSED
        assert Code.BODY_PART in {reason.code for reason in report.reasons}
