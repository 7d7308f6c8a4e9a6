"""A foreign image does not condemn the rest; adjoining acquisitions are one volume. End to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from appliance import line
from appliance.backend.protocol import Backend
from appliance.bundle.trust import Bundle
from appliance.reasons import Code
from appliance.records import Result
from appliance.report import Status
from rigs.chests import Dicom, Slices
from rigs.device import Process, Seal

LIMITED = [Code.SPACING_LIMITED, Code.THICKNESS_LIMITED]
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SCREEN = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
SCOUT = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
RLE, SEGMENTS = "1.2.840.10008.1.2.5", b"\x02\0\0\0\x40\0\0\0"
REPORT = "1.2.840.10008.5.1.4.1.1.88.22"


@pytest.fixture(scope="module")
def good(dicom: Dicom, process: Process) -> Result:
    """What the small chest gives when nothing is wrong with it."""
    return process(dicom.all(dicom.chest()))


@pytest.fixture(scope="module")
def holed(dicom: Dicom, process: Process) -> Result:
    """What it gives without image 7."""
    slices = dicom.chest()
    return process(dicom.all([*slices[:6], *slices[7:]]))


def codes(result: Result) -> list[Code]:
    return [reason.code for reason in (*result.reasons, *result.limitations)]


def foreign(dicom: Dicom, **tags: Any) -> Dataset:
    """An image of the same series and patient that is none of its slices."""
    (ds,) = dicom.chest()[:1]
    return dicom.say(ds, SOPInstanceUID="1.2.3.99", InstanceNumber=99, **tags)


BESIDE: dict[str, tuple[dict[str, Any], str]] = {
    "a localizer": ({"ImageType": SCOUT}, "image 99: it is a localizer"),
    "a dose screen": ({"ImageType": SCREEN}, "image 99: it is a picture of a screen"),
    "a capture": (
        {
            "SOPClassUID": SECONDARY_CAPTURE,
            "Modality": "OT",
            "FrameOfReferenceUID": None,
            "ImagePositionPatient": None,
            "PatientAge": None,
        },
        "image 99: it is a secondary capture",
    ),
    "an iodine map": ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "IODINE"]}, "no image of HU"),
    "an image without a place": ({"ImagePositionPatient": None}, "image 99: Image Position"),
    "an image without pixels": ({"PixelData": None}, "image 99: no Pixel Data"),
    "a picture in colour": (
        {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
        "image 99: 3 samples",
    ),
    "a report of the dose": (
        {"SOPClassUID": REPORT, "Modality": "SR", "PixelData": None, "ImageType": None},
        "image 99: The modality is SR",
    ),
    "a scout without image type": (
        {"ImageType": None, "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
        "image 99: turned by 90.0 degrees",
    ),
}


@pytest.mark.parametrize("what", BESIDE)
@pytest.mark.parametrize("number", [0, 99])
def test_one_foreign_image_is_set_aside_and_the_rest_is_what_it_was(
    what: str, number: int, process: Process, dicom: Dicom, good: Result, seal: Seal
) -> None:
    tags, named = BESIDE[what]
    other = foreign(dicom, **tags)
    dicom.say(other, InstanceNumber=number)
    files = dicom.all([*dicom.chest(), other])
    result = process(files)
    assert result.status is Status.ANALYSED
    (aside, *rest) = result.limitations
    assert aside.code is Code.SET_ASIDE_IMAGES
    assert named.replace("99", str(number)) in aside.text
    assert "1 of 25 images is set aside" in aside.text
    assert aside.where == f"image {number}"
    assert [reason.code for reason in rest] == LIMITED
    assert (result.findings, result.input_digest, result.facts) == (
        good.findings,
        good.input_digest,
        good.facts,
    )
    assert seal(result).same_as(seal(good))
    assert seal(good).same_as(seal(result))
    assert seal(process(files[::-1])) == seal(result)


UNUSABLE: dict[str, tuple[Callable[[Dicom, Dataset], bytes], str]] = {
    "without pixels": (lambda dicom, ds: dicom.bytes(dicom.say(ds, PixelData=None)), "image 7: "),
    "cut in its pixels": (lambda dicom, ds: dicom.bytes(ds)[:9000], "image 7: "),
    "cut in its header": (lambda dicom, ds: dicom.bytes(ds)[:300], "image: "),
    "of a code that nobody can read": (
        lambda dicom, ds: dicom.bytes(ds, RLE).replace(SEGMENTS, SEGMENTS[:4] + b"\xff" * 4),
        "image 7: ",
    ),
    "turned": (
        lambda dicom, ds: dicom.bytes(
            dicom.say(ds, ImageOrientationPatient=[1, 0, 0, 0, 0.996195, 0.087156])
        ),
        "image 7: turned by 5.0 degrees",
    ),
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_a_slice_that_cannot_be_used_is_a_hole_told_once_with_its_cause(
    how: str, process: Process, dicom: Dicom, slices: Slices, holed: Result, seal: Seal
) -> None:
    spoil, named = UNUSABLE[how]
    files = dicom.all(slices)
    files[6] = spoil(dicom, slices[6])
    result = process(files)
    assert result.status is Status.ANALYSED
    assert codes(result) == [Code.SET_ASIDE_IMAGES, *LIMITED]
    assert result.limitations[0].text.startswith(named)
    assert "a hole of 10.0 mm" in result.limitations[0].text
    assert Code.GAP_FILLED in codes(holed)
    assert (result.findings, result.input_digest) == (holed.findings, holed.input_digest)
    assert seal(result).same_as(seal(holed))
    assert seal(process(files[::-1])) == seal(result)


def test_causes_come_first_and_every_image_is_named(process: Process, dicom: Dicom) -> None:
    fine = dicom.chest()
    more = [foreign(dicom, ImageType=SCOUT), foreign(dicom, PixelData=None)]
    for number, ds in enumerate(more):
        dicom.say(ds, InstanceNumber=90 + number, SOPInstanceUID=f"1.2.3.9{number}")
    result = process(dicom.all([*more, *fine]))
    text = result.limitations[0].text
    assert text.index("image 91: no Pixel Data") < text.index("image 90: it is a localizer")
    assert "2 of 26 images are set aside" in text


def test_many_images_of_one_cause_are_named_together(process: Process, dicom: Dicom) -> None:
    slices = dicom.chest()
    for ds in slices[:1] + slices[-1:]:
        dicom.say(ds, PixelData=None)
    (aside, *_) = process(dicom.all(slices)).limitations
    assert aside.text.startswith("image 1: no Pixel Data (7FE0,0010) (and image 24); 2 of 24")


def test_more_than_a_tenth_refuses_the_series(process: Process, dicom: Dicom) -> None:
    def with_scouts(count: int) -> Result:
        scouts = [foreign(dicom, ImageType=SCOUT, AcquisitionNumber=i) for i in range(count)]
        for i, ds in enumerate(scouts):
            dicom.say(ds, SOPInstanceUID=f"1.2.3.9.{i}")
        return process(dicom.all([*dicom.chest(), *scouts]))

    assert with_scouts(2).status is Status.ANALYSED
    refused = with_scouts(3)
    assert codes(refused) == [Code.MIXED_SERIES]
    assert "the other images are of another kind" in refused.reasons[0].text
    assert refused.facts.slices == 27


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientID": "another"},
        {"StudyInstanceUID": "1.2.3.7"},
        {"FrameOfReferenceUID": "1.2.3.7"},
    ],
    ids=lambda tags: next(iter(tags)),
)
@pytest.mark.parametrize("kind", [SCOUT, SCREEN, ["ORIGINAL", "PRIMARY", "AXIAL"]])
def test_another_patient_study_or_frame_is_not_foreign_and_refuses(
    tags: dict[str, Any], kind: list[str], process: Process, dicom: Dicom, good: Result
) -> None:
    slices = dicom.chest(PatientID="one")
    other = foreign(dicom, PatientID="one", ImageType=kind)
    dicom.say(other, ImagePositionPatient=[*other.ImagePositionPatient[:2], 62.5], **tags)
    result = process(dicom.all([*slices, other]))
    assert codes(result)[0] is Code.MIXED_SERIES
    assert "another" not in result.reasons[0].text.replace("of another", "")
    assert result.input_digest != good.input_digest, "the report that was final does not stand"


def test_what_is_left_must_still_pass_and_its_true_cause_leads(
    process: Process, dicom: Dicom
) -> None:
    slices = dicom.chest()
    scout = foreign(dicom, ImageType=SCOUT)
    gap = process(dicom.all([*slices[:6], *slices[9:], scout]))
    assert codes(gap) == [Code.GAP_TOO_WIDE], "a localizer is the cause of no gap"
    for ds in slices[6:8]:
        dicom.say(ds, PixelData=None)
    assert codes(process(dicom.all(slices))) == [Code.MISSING_PIXELS]


def test_a_patient_that_the_bundle_is_not_meant_for_is_not_foreign(
    process: Process, dicom: Dicom
) -> None:
    child = foreign(dicom, PatientAge="005Y", ImagePositionPatient=[0, 0, 62.5])
    assert codes(process(dicom.all([*dicom.chest(), child]))) == [Code.PATIENT_AGE]


def test_without_a_bundle_all_images_are_the_input(dicom: Dicom) -> None:
    scout = foreign(dicom, ImageType=SCOUT)
    alone = line.process(dicom.all(dicom.chest()), None, None)
    both = line.process(dicom.all([*dicom.chest(), scout]), None, None)
    assert codes(both) == codes(alone) == [Code.NO_BUNDLE]
    assert both.input_digest != alone.input_digest


def test_a_result_is_renewed_by_what_was_set_aside_since(
    tiny: Bundle, tiny_backend: Backend, dicom: Dicom, good: Result
) -> None:
    fold = line.begin([tiny])
    for file in dicom.all([*dicom.chest(), foreign(dicom, ImageType=SCOUT)]):
        fold = line.add(fold, file)
    wanted = line.finish(fold, tiny, tiny_backend)
    renewed = line.renewed(good, fold, tiny)
    assert renewed.limitations == wanted.limitations
    assert line.renewed(renewed, fold, tiny).limitations == wanted.limitations
    assert replace(renewed, limitations=()).findings == wanted.findings


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_order_of_arrival_changes_nothing(
    data: st.DataObject, dicom: Dicom, process: Process, seal: Seal
) -> None:
    slices = dicom.chest()
    files = dicom.all([*slices[:6], *slices[7:], foreign(dicom, ImageType=SCOUT)])
    files.append(dicom.bytes(slices[6])[:9000])
    mixed = data.draw(st.permutations(files))
    assert seal(process(mixed)) == seal(process(files))


# Acquisitions


def twice_acquired(dicom: Dicom, *, noisy: int) -> Slices:
    """The small chest as two acquisitions; at the seam one noisy image more."""
    slices = dicom.chest()
    for index, ds in enumerate(slices):
        dicom.say(ds, AcquisitionNumber=2 if index < 14 else 3)
    (copy,) = dicom.chest()[noisy : noisy + 1]
    pixels = np.frombuffer(copy.PixelData, "<i2")
    noise = np.random.default_rng(1).integers(-90, 90, pixels.shape).astype("<i2")
    dicom.say(copy, PixelData=(pixels + noise).tobytes(), SOPInstanceUID="1.2.3.99")
    return [*slices, dicom.say(copy, InstanceNumber=99, AcquisitionNumber=2)]


def test_acquisitions_that_adjoin_keep_all_findings_and_name_those_at_the_seam(
    process: Process, dicom: Dicom, good: Result, seal: Seal
) -> None:
    files = dicom.all(twice_acquired(dicom, noisy=14))
    result = process(files)
    assert result.status is Status.ANALYSED
    assert result.findings == good.findings
    joined = [r for r in result.limitations if r.code is Code.JOINED_ACQUISITIONS]
    assert [r.code for r in result.limitations if r not in joined] == LIMITED
    seam = float((joined[0].where or "").split()[1])
    near = [f.id for f in good.findings if abs(f.place_lps_mm[2] - seam) <= 10]
    assert near
    assert len(near) < len(good.findings)
    assert joined[1].where == joined[0].where
    assert joined[1].text.startswith(f"finding {', '.join(map(str, near))}: within 10 mm")
    assert seal(process(files[::-1])) == seal(result)


def test_a_doubled_place_that_no_acquisition_explains_is_refused(
    process: Process, dicom: Dicom
) -> None:
    assert codes(process(dicom.all(twice_acquired(dicom, noisy=5)))) == [Code.DUPLICATE_POSITION]
