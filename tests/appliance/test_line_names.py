"""Names are hints: what the images of a series show decides, end to end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Reason, Status
from rigs.chests import Slices
from rigs.device import Process

AFTER = ["DERIVED", "PRIMARY", "AXIAL"]
LIMITED = [Code.SPACING_LIMITED, Code.THICKNESS_LIMITED]


@pytest.fixture(scope="module")
def good(dicom: Any, process: Process) -> Result:
    """What the small chest gives when nothing is wrong with it."""
    return process(dicom.all(dicom.chest()))


def codes(reasons: tuple[Reason, ...]) -> list[Code]:
    return [reason.code for reason in reasons]


def said(dicom: Any, slices: Slices, **tags: Any) -> list[bytes]:
    """The images, each with these tags."""
    return [dicom.bytes(dicom.say(ds, **tags)) for ds in slices]


@pytest.mark.parametrize(
    ("tags", "limitations"),
    [
        ({"ImageType": ["ORIGINAL", "SECONDARY", "AXIAL"]}, [Code.SECONDARY, *LIMITED]),
        ({"ImageType": AFTER}, [Code.DERIVED, *LIMITED]),
        ({"ImageType": AFTER, "RescaleType": "Houndsfield Unit"}, [Code.DERIVED, *LIMITED]),
        ({"ImageType": AFTER, "LossyImageCompression": "01"}, [*LIMITED, Code.LOSSY]),
        ({"BodyPartExamined": "SKULL_TO_THIGH"}, LIMITED),
        ({"BodyPartExamined": "THYROID"}, LIMITED),
        ({"PatientAge": "000Y"}, [*LIMITED, Code.AGE_UNKNOWN]),
        ({"PatientAge": "126Y"}, [*LIMITED, Code.AGE_UNKNOWN]),
        ({"PatientAge": "126Y", "PatientBirthDate": "19600101", "StudyDate": "20260105"}, LIMITED),
    ],
)
def test_a_whole_chest_is_analysed_whatever_its_header_is_called(
    tags: dict[str, Any], limitations: list[Code], process: Process, dicom: Any, good: Result
) -> None:
    slices = dicom.chest()
    for ds in slices:
        dicom.say(ds, **tags)
    result = process(dicom.all(slices))
    assert result.status is Status.ANALYSED
    assert codes(result.limitations) == limitations
    assert result.findings == good.findings
    again = process(reversed(dicom.all(slices)))
    assert (again.findings, again.limitations) == (result.findings, result.limitations)


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"PatientSpeciesDescription": "Canine"}, Code.SPECIES),
        ({"ImageType": [*AFTER, "IODINE"]}, Code.OTHER_QUANTITY),
        ({"ImageType": AFTER, "BurnedInAnnotation": "YES"}, Code.SECONDARY_CAPTURE),
        ({"ImageType": AFTER, "RescaleType": "Z_EFF"}, Code.UNSUPPORTED_PIXELS),
        ({"RescaleIntercept": "0"}, Code.SUSPECT_HU),
        ({"RescaleIntercept": "-900", "ImageType": AFTER}, Code.SUSPECT_HU),
    ],
)
def test_what_no_name_can_excuse_is_the_one_reason(
    tags: dict[str, Any], code: Code, process: Process, dicom: Any, slices: Slices
) -> None:
    result = process(said(dicom, slices, **tags))
    assert result.status is Status.NOT_ANALYSED
    assert codes(result.reasons) == [code]


def test_hu_that_are_a_little_off_limit_what_the_scanner_made_and_refuse_nothing(
    process: Process, dicom: Any, slices: Slices
) -> None:
    result = process(said(dicom, slices, RescaleIntercept="-900"))
    assert result.status is Status.ANALYSED
    assert Code.SUSPECT_HU in codes(result.limitations)


@pytest.mark.parametrize("kept", [slice(3, None), slice(None, 21)])
def test_another_body_part_is_the_reason_where_the_lungs_are_not_whole(
    kept: slice, process: Process, dicom: Any, slices: Slices
) -> None:
    assert process(dicom.all(slices[kept])).status is Status.ANALYSED
    result = process(said(dicom, slices[kept], BodyPartExamined="ABDOMEN"))
    assert result.status is Status.NOT_ANALYSED
    assert codes(result.reasons) == [Code.BODY_PART]
    assert "The body part is ABDOMEN" in result.reasons[0].text
    assert "reach beyond" in result.reasons[0].text


def test_another_body_part_is_the_reason_where_one_lung_is_missing(
    process: Process, dicom: Any, slices: Slices
) -> None:
    for ds in slices:
        pixels = np.frombuffer(ds.PixelData, "<i2").reshape(80, 80).copy()
        pixels[15:65, 6:40] = pixels[15:65, 38:40].max()
        ds.PixelData = pixels.tobytes()
    one_lung = process(dicom.all(slices))
    assert Code.ONE_LUNG in codes(one_lung.limitations)
    result = process(said(dicom, slices, BodyPartExamined="LIVER"))
    assert codes(result.reasons) == [Code.BODY_PART]
    assert "Only one lung" in result.reasons[0].text


def test_a_part_of_the_body_without_air_has_no_lungs_and_no_wrong_hu(
    process: Process, dicom: Any
) -> None:
    slices = dicom.chest(lungs=False, BodyPartExamined=None)
    for ds in slices:
        pixels = np.frombuffer(ds.PixelData, "<i2").reshape(80, 80)
        cut = np.ascontiguousarray(pixels[24:56, 24:56])
        dicom.say(ds, Rows=32, Columns=32, PixelData=cut.tobytes())
    assert codes(process(dicom.all(slices)).reasons) == [Code.NO_LUNGS]


def test_another_body_part_is_the_reason_where_no_lungs_are(process: Process, dicom: Any) -> None:
    head = process(dicom.all(dicom.chest(lungs=False, BodyPartExamined="HEAD")))
    assert codes(head.reasons) == [Code.BODY_PART]
    assert "0 ml of lung" in head.reasons[0].text
    short = process(dicom.all(dicom.chest(lungs=False, BodyPartExamined="HEAD")[:7]))
    assert codes(short.reasons) == [Code.BODY_PART], "not long enough to be looked at"


def test_a_scout_without_image_type_is_a_localizer(process: Process, dicom: Any) -> None:
    slices = dicom.chest()[:2]
    for ds in slices:
        dicom.say(ds, ImageType=None, SliceThickness=None)
        dicom.say(ds, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    result = process(dicom.all(slices))
    assert codes(result.reasons) == [Code.LOCALIZER]
    for ds in slices:
        dicom.say(ds, SliceThickness="700")
    assert codes(process(dicom.all(slices)).reasons) == [Code.LOCALIZER]


def test_an_image_that_cannot_be_read_is_no_gap_as_well(
    process: Process, dicom: Any, slices: Slices
) -> None:
    for ds in slices[6:12]:
        dicom.say(ds, PixelData=None)
    assert codes(process(dicom.all(slices)).reasons) == [Code.MISSING_PIXELS]
