"""The line, end to end: both ways of the fold, what `seal` adds, and every bad input by name."""

from __future__ import annotations

import json
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
from appliance.lines import budget as admission
from appliance.lines.kind import Context
from appliance.reasons import REMEDIES, Code
from appliance.records import Result
from appliance.report import Reason, Status
from appliance.watching.quality import VolumeQuality

Slices = list[Dataset]
Process = Callable[..., Result]
SYNTAXES = {
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "implicit VR": "1.2.840.10008.1.2",
}


@pytest.fixture(scope="module")
def good(dicom: Any, process: Process) -> Result:
    """What the small chest gives when nothing is wrong with it."""
    return process(dicom.all(dicom.chest()))


def same(a: Result, b: Result) -> bool:
    """Equal in everything, voxels of the masks included."""
    masks = len(a.masks) == len(b.masks) and all(
        m.name == n.name and np.array_equal(m.voxels, n.voxels)
        for m, n in zip(a.masks, b.masks, strict=True)
    )
    return masks and replace(a, masks=()) == replace(b, masks=())


def codes(reasons: tuple[Reason, ...]) -> list[Code]:
    return [reason.code for reason in reasons]


# The fold


def test_a_good_chest_is_analysed_with_findings_in_its_lungs(good: Result) -> None:
    assert good.status is Status.ANALYSED
    assert good.findings
    assert good.facts.slices == 24
    assert good.facts.coverage.lungs == "covered"
    assert {m.name for m in good.masks} == {"lungs"}
    assert codes(good.limitations) == [Code.SPACING_LIMITED, Code.THICKNESS_LIMITED]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(range(24)))
def test_slices_in_any_order_give_the_same_result(
    order: list[int], tiny: Bundle, tiny_backend: Backend, good: Result, dicom: Any
) -> None:
    files = _files(dicom)
    fold = line.begin([tiny])
    for index in order:
        fold = line.add(fold, files[index])
    assert same(line.finish(fold, tiny, tiny_backend), good)


_kept: list[bytes] = []


def _files(dicom: Any) -> list[bytes]:
    if not _kept:
        _kept.extend(dicom.all(dicom.chest()))
    return _kept


def test_an_empty_fold_changes_nothing_in_what_it_came_from(tiny: Bundle, dicom: Any) -> None:
    start = line.begin([tiny])
    once = line.add(start, _files(dicom)[0])
    assert start == line.begin([tiny])
    assert (len(start.shares[0].images), len(once.shares[0].images)) == (0, 1)


def test_a_series_that_would_fill_the_memory_is_refused_and_let_go(
    process: Process, good: Result, dicom: Any, monkeypatch: pytest.MonkeyPatch, tiny: Bundle
) -> None:
    files = _files(dicom)
    one = line.add(line.begin([tiny]), files[0]).held
    assert one > 80 * 80 * 2
    monkeypatch.setattr(admission, "MAX_BYTES", 10 * one)
    refused = process(files)
    assert refused.status is Status.NOT_ANALYSED
    assert codes(refused.reasons) == [Code.TOO_LARGE]
    assert refused.facts.slices == 24
    assert refused.input_digest != good.input_digest, "its pixels were not read: another report_id"
    assert same(process(files[::-1]), refused)
    fold = line.begin([tiny])
    for file in files:
        fold = line.add(fold, file)
        assert len(fold.shares[0].images) <= 10
    monkeypatch.setattr(admission, "MAX_BYTES", 24 * one)
    assert same(process(files), good)


def test_a_series_is_refused_where_its_pixels_leave_no_room(
    good: Result, dicom: Any, tiny: Bundle, tiny_backend: Backend
) -> None:
    files = _files(dicom)
    one = line.add(line.begin([tiny]), files[0]).held
    refused = line.process(files, tiny, tiny_backend, 10 * one + 1)
    assert codes(refused.reasons) == [Code.TOO_LARGE]
    assert f"{10 * one >> 20} MB" in refused.reasons[0].text
    assert refused.facts.slices == 24
    assert same(line.process(files[::-1], tiny, tiny_backend, 10 * one + 1), refused)
    assert same(line.process(files, tiny, tiny_backend, 1 << 40), good)


def test_a_series_whose_analysis_would_not_fit_is_refused_before_it_is_inferred(
    good: Result, dicom: Any, tiny: Bundle, tiny_backend: Backend
) -> None:
    files = _files(dicom)
    held = sum(line.add(line.begin([tiny]), file).held for file in files)
    refused = line.process(files, tiny, tiny_backend, held)
    assert codes(refused.reasons) == [Code.TOO_LARGE]
    assert "its analysis needs" in refused.reasons[0].text
    assert (refused.facts.slices, refused.facts.spacing_mm) == (24, good.facts.spacing_mm)
    assert not refused.findings
    assert not refused.masks
    early = line.process(files, tiny, tiny_backend, held // 2)
    assert refused.input_digest == early.input_digest != good.input_digest


def test_an_image_without_content_is_a_hole_and_never_part_of_a_negative(
    process: Process, dicom: Any, slices: Slices
) -> None:
    dicom.say(slices[8], PixelData=bytes(len(slices[8].PixelData)))
    holed = process(dicom.all(slices))
    assert holed.status is Status.ANALYSED
    assert {Code.GAP_FILLED, Code.MISSING_PIXELS} <= set(codes(holed.limitations))
    for ds in slices[9:12]:
        dicom.say(ds, PixelData=bytes(len(ds.PixelData)))
    assert codes(process(dicom.all(slices)).reasons) == [Code.GAP_TOO_WIDE]


def test_an_image_that_comes_twice_is_one_image(process: Process, good: Result, dicom: Any) -> None:
    files = _files(dicom)
    assert same(process([*files, files[3], files[3]]), good)


def test_other_pixels_make_another_digest(process: Process, good: Result, dicom: Any) -> None:
    other = process(dicom.all(dicom.chest(shift_hu=1)))
    assert other.status is Status.ANALYSED
    assert other.input_digest != good.input_digest


def test_a_missing_slice_makes_another_digest_and_a_limitation(
    process: Process, good: Result, dicom: Any
) -> None:
    files = _files(dicom)
    holed = process(files[:10] + files[11:])
    assert holed.status is Status.ANALYSED
    assert Code.GAP_FILLED in codes(holed.limitations)
    assert holed.input_digest != good.input_digest


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_resend_in_another_transfer_syntax_is_the_same_report(
    name: str, process: Process, good: Result, dicom: Any, slices: Slices, seal: Any
) -> None:
    files = dicom.all(slices, SYNTAXES[name])
    assert files[0] != dicom.bytes(slices[0])
    result = process(reversed(files))
    assert same(result, good)
    assert seal(result).same_as(seal(good))


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_refused_resend_in_another_transfer_syntax_is_the_same_report(
    name: str, process: Process, dicom: Any, slices: Slices, seal: Any
) -> None:
    """Pixels of what is refused or set aside are not read; its id may not tell the syntax."""
    for ds in slices:
        dicom.say(ds, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    one, other = process(dicom.all(slices)), process(dicom.all(slices, SYNTAXES[name]))
    assert codes(one.reasons) == [Code.LOCALIZER]
    assert seal(one).same_as(seal(other))


def test_what_is_refused_unread_still_has_an_id_of_its_images(
    process: Process, dicom: Any, slices: Slices, seal: Any
) -> None:
    for ds in slices:
        dicom.say(ds, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    all_of_them, fewer = process(dicom.all(slices)), process(dicom.all(slices[:-1]))
    assert codes(fewer.reasons) == codes(all_of_them.reasons) == [Code.LOCALIZER]
    assert seal(fewer).report_id != seal(all_of_them).report_id


def test_the_demo_phantom_is_analysed(process: Process, phantom_files: list[bytes]) -> None:
    result = process(phantom_files)
    assert result.status is Status.ANALYSED
    assert result.findings
    lungs = result.masks[0]
    litres = lungs.voxels.sum() * np.prod(lungs.grid.spacing_mm) / 1e6
    assert 2 < litres < 9


def test_without_a_bundle_it_is_not_analysed_but_its_facts_are_kept(dicom: Any) -> None:
    result = line.process(_files(dicom), None, None)
    assert codes(result.reasons) == [Code.NO_BUNDLE]
    assert (result.bundle, result.facts.slices) == (None, 24)
    assert result.facts.spacing_mm == (5.0, 4.0, 4.0)


def test_reasons_of_the_outside_refuse_and_come_first(
    tiny: Bundle, tiny_backend: Backend, dicom: Any
) -> None:
    fold = line.begin([tiny])
    for file in _files(dicom):
        fold = line.add(fold, file)
    better = Reason(code=Code.BETTER_SERIES, text="another", where="series")
    result = line.finish(fold, tiny, tiny_backend, Context(reasons=(better,)))
    assert (result.status, result.reasons, result.findings) == (
        Status.NOT_ANALYSED,
        (better,),
        (),
    )
    limit = Reason(code=Code.TRANSFER_ABORTED, text="it broke off", where="series")
    limited = line.finish(fold, tiny, tiny_backend, Context(limitations=(limit,)))
    assert limited.limitations[0] == limit
    broken = line.failed(fold, tiny, Reason(code=Code.POISONED, text="three times"))
    assert (broken.status, codes(broken.reasons)) == (Status.FAILED, [Code.POISONED])
    assert broken.input_digest != result.input_digest, "a later try that succeeds has its own id"


def test_what_was_measured_of_slices_is_said_of_a_refused_series_and_never_of_a_broken_one(
    good: Result, process: Process, dicom: Any, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series may have broken the analysis just where it is measured."""
    assert len(good.quality) == 1
    slices = dicom.chest()
    dicom.say(slices[6], RescaleSlope=None)
    refused = process(dicom.all(slices))
    assert codes(refused.reasons) == [Code.MISSING_RESCALE]
    (found,) = refused.quality
    assert isinstance(found, VolumeQuality)
    assert found.contrast == "unknown", "there are no lungs to look between"
    assert isinstance(good.quality[0], VolumeQuality)
    assert found.diameter_mm == pytest.approx(good.quality[0].diameter_mm, rel=0.05)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("appliance.quality.series.measured", broken)
    fold = line.begin([tiny])
    for data in dicom.all(dicom.chest()):
        fold = line.add(fold, data)
    failed = line.failed(fold, tiny, Reason(code=Code.POISONED, text="three times"))
    assert failed.quality == ()


def test_of_images_that_cannot_be_read_nothing_was_measured(process: Process, dicom: Any) -> None:
    slices = dicom.chest()
    for image in slices:
        dicom.say(image, RescaleSlope=None)
    assert process(dicom.all(slices)).quality == ()


# Bad input: each gives a Result that says what, where and what to do


def one(index: int, **tags: Any) -> Callable[[Any, Slices], list[bytes]]:
    """A series in which one image is spoilt."""

    def spoil(dicom: Any, slices: Slices) -> list[bytes]:
        dicom.say(slices[index], **tags)
        return list(dicom.all(slices))

    return spoil


def every(**tags: Any) -> Callable[[Any, Slices], list[bytes]]:
    def spoil(dicom: Any, slices: Slices) -> list[bytes]:
        for ds in slices:
            dicom.say(ds, **tags)
        return list(dicom.all(slices))

    return spoil


def three(**tags: Any) -> Callable[[Any, Slices], list[bytes]]:
    """A series of which more than a tenth is spoilt: images 7 to 9."""

    def spoil(dicom: Any, slices: Slices) -> list[bytes]:
        for ds in slices[6:9]:
            dicom.say(ds, **tags)
        return list(dicom.all(slices))

    return spoil


def cut(at: int | float) -> Callable[[Any, Slices], list[bytes]]:
    """Files 7 to 9 end after `at` bytes, or that part of them."""

    def spoil(dicom: Any, slices: Slices) -> list[bytes]:
        files = list(dicom.all(slices))
        end = at if isinstance(at, int) else int(len(files[6]) * at)
        files[6:9] = [file[:end] for file in files[6:9]]
        return files

    return spoil


def vr(keyword: str, kind: str, value: Any) -> Callable[[Any, Slices], list[bytes]]:
    """Image 7 has this element with a VR that is not its own."""

    def spoil(dicom: Any, slices: Slices) -> list[bytes]:
        tag = slices[6][keyword].tag
        del slices[6][keyword]
        slices[6].add_new(tag, kind, value)
        return list(dicom.all(slices))

    return spoil


def only(count: int) -> Callable[[Any, Slices], list[bytes]]:
    return lambda dicom, slices: list(dicom.all(slices[:count]))


def copies(**tags: Any) -> Callable[[Any, Slices], list[bytes]]:
    """Image 7 comes again with other pixels under another UID."""

    def spoil(dicom: Any, slices: Slices) -> list[bytes]:
        files = list(dicom.all(slices))
        brighter = (np.frombuffer(slices[6].PixelData, "<i2") + 5).tobytes()
        dicom.say(slices[6], PixelData=brighter, InstanceNumber=99, **tags)
        return [*files, dicom.bytes(slices[6])]

    return spoil


def tilted(dicom: Any, slices: Slices) -> list[bytes]:
    for ds in slices:
        x, y, z = ds.ImagePositionPatient
        dicom.say(ds, ImagePositionPatient=[x, y + float(z) * 0.3, z])
    return list(dicom.all(slices))


def without(first: int, last: int) -> Callable[[Any, Slices], list[bytes]]:
    return lambda dicom, slices: list(dicom.all(slices[:first] + slices[last:]))


def lungless(dicom: Any, slices: Slices) -> list[bytes]:
    return list(dicom.all(dicom.chest(lungs=False, BodyPartExamined=None)))


def noise(dicom: Any, slices: Slices) -> list[bytes]:
    random = np.random.default_rng(3)
    return [random.bytes(1000) for _ in range(5)]


Spoil = Callable[[Any, Slices], list[bytes]]
BAD: dict[str, tuple[Spoil, Code, str]] = {
    # scenario: how, the code, what the text names
    "no slice at all": (only(0), Code.NO_SLICES, "no image"),
    "a single slice": (only(1), Code.TOO_FEW_SLICES, "1 images"),
    "two slices": (only(2), Code.COVER_TOO_SHORT, "5 mm"),
    "random bytes": (noise, Code.UNREADABLE, "1000 bytes"),
    "a file cut in its pixels": (cut(0.7), Code.MISSING_PIXELS, "image 7"),
    "a file cut in its header": (cut(200), Code.UNREADABLE, "image"),
    "an empty file": (cut(0), Code.UNREADABLE, "0 bytes"),
    "a file that is only a preamble": (cut(132), Code.UNREADABLE, "ends before"),
    "position of VR LO with words": (
        vr("ImagePositionPatient", "LO", ["left", "back", "up"]),
        Code.INVALID_VALUE,
        "image 7",
    ),
    "pixel spacing of VR OB": (vr("PixelSpacing", "OB", b"4.0\\4.0 "), Code.INVALID_VALUE, "OB"),
    "rows of VR FD": (vr("Rows", "FD", 80.5), Code.INVALID_VALUE, "80.5"),
    "rescale slope of VR SQ": (
        vr("RescaleSlope", "SQ", [Dataset()]),
        Code.INVALID_VALUE,
        "image 7",
    ),
    "65535 x 65535 pixels": (every(Rows=65535, Columns=65535), Code.TOO_LARGE, "65535 x 65535"),
    "no rows": (one(6, Rows=0), Code.INVALID_VALUE, "image 7"),
    "more rows than pixels": (three(Rows=81), Code.MISSING_PIXELS, "12960"),
    "a claim of 65,535 frames": (one(6, NumberOfFrames=65535), Code.TOO_LARGE, "65535 frames"),
    "a claim of 12 frames": (three(NumberOfFrames=12), Code.MISSING_GEOMETRY, "12 frames"),
    "negative pixel spacing": (one(6, PixelSpacing=[-4.0, 4.0]), Code.INVALID_VALUE, "-4"),
    "pixel spacing of zero": (one(6, PixelSpacing=[0.0, 0.0]), Code.INVALID_VALUE, "0, 0 mm"),
    "pixels of half a metre": (every(PixelSpacing=[500, 500]), Code.INVALID_VALUE, "500"),
    "negative thickness": (one(6, SliceThickness="-5"), Code.INVALID_VALUE, "-5"),
    "NaN as position": (
        vr("ImagePositionPatient", "FD", [0.0, float("nan"), 1.0]),
        Code.INVALID_VALUE,
        "not finite",
    ),
    "NaN as text in the position": (
        vr("ImagePositionPatient", "LO", ["0", "NaN", "1"]),
        Code.INVALID_VALUE,
        "not a number",
    ),
    "NaN as rescale slope": (
        vr("RescaleSlope", "FD", float("nan")),
        Code.INVALID_VALUE,
        "Rescale Slope",
    ),
    "infinity as rescale intercept": (
        vr("RescaleIntercept", "FD", float("inf")),
        Code.INVALID_VALUE,
        "Rescale Intercept",
    ),
    "a rescale slope of zero": (one(6, RescaleSlope=0), Code.INVALID_VALUE, "is 0"),
    "a rescale slope beyond reason": (one(6, RescaleSlope="1e30"), Code.INVALID_VALUE, "image 7"),
    "no rescale": (one(6, RescaleSlope=None), Code.MISSING_RESCALE, "image 7"),
    "no rescale anywhere": (every(RescaleIntercept=None), Code.MISSING_RESCALE, "23 more"),
    "no pixels": (three(PixelData=None), Code.MISSING_PIXELS, "image 7"),
    "no position": (three(ImagePositionPatient=None), Code.MISSING_GEOMETRY, "image 7"),
    "colour": (
        three(PhotometricInterpretation="RGB", SamplesPerPixel=3),
        Code.UNSUPPORTED_PIXELS,
        "RGB",
    ),
    "path tricks in a UID": (
        one(6, SOPInstanceUID="../../../etc/passwd"),
        Code.INVALID_VALUE,
        "SOP Instance UID",
    ),
    "a NUL and a slash in a UID": (
        one(6, SeriesInstanceUID="1.2\0/x"),
        Code.INVALID_VALUE,
        "not a UID",
    ),
    "empty UIDs": (
        every(SOPInstanceUID="", StudyInstanceUID="", SeriesInstanceUID=""),
        Code.MISSING_UID,
        "23 more",
    ),
    "no SOP instance UID in one image": (one(6, SOPInstanceUID=None), Code.MISSING_UID, "image 7"),
    "two series in one": (one(6, SeriesInstanceUID="1.2.3.9"), Code.MIXED_SERIES, "image 7"),
    "two studies in one": (one(0, StudyInstanceUID="1.2.3.9"), Code.MIXED_SERIES, "image 1"),
    "localizers mixed in": (
        three(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        Code.MIXED_SERIES,
        "image 7",
    ),
    "other pixels at one position": (
        copies(SOPInstanceUID="1.2.3.77"),
        Code.DUPLICATE_POSITION,
        "image 99",
    ),
    "other pixels under one UID": (copies(), Code.DUPLICATE_UID, "image 99"),
    "three images turned": (
        three(ImageOrientationPatient=[1, 0, 0, 0, 0.996195, 0.087156]),
        Code.MIXED_ORIENTATION,
        "image 7",
    ),
    "an orientation that is none": (
        one(6, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        Code.INVALID_VALUE,
        "orthonormal",
    ),
    "another pixel spacing in one image": (
        one(6, PixelSpacing=[3, 3]),
        Code.MIXED_SPACING,
        "image 7",
    ),
    "sheared by a gantry tilt": (tilted, Code.GANTRY_TILT, "degrees"),
    "a hole of 25 mm": (without(10, 14), Code.GAP_TOO_WIDE, "25.0 mm"),
    "slices 12 mm thick": (every(SliceThickness="12"), Code.THICKNESS_TOO_WIDE, "12.00 mm"),
    "a head without body part": (lungless, Code.NO_LUNGS, "0 ml"),
    "a localizer series": (
        every(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        Code.LOCALIZER,
        "LOCALIZER",
    ),
    "one image of another body part": (
        one(6, BodyPartExamined="HEAD"),
        Code.BODY_PART,
        "image 7: The body part is HEAD",
    ),
    "one image of a child": (one(6, PatientAge="005Y"), Code.PATIENT_AGE, "image 7: "),
    "magnetic resonance": (every(Modality="MR"), Code.MODALITY, "MR"),
}


@pytest.mark.parametrize("scenario", BAD)
def test_bad_input_is_refused_with_figure_and_remedy(
    scenario: str, process: Process, dicom: Any, slices: Slices, seal: Any
) -> None:
    spoil, code, names = BAD[scenario]
    files = spoil(dicom, slices)
    result = process(files)
    assert result.status is Status.NOT_ANALYSED
    assert result.findings == ()
    assert result.masks == ()
    assert code in codes(result.reasons)
    reason = next(r for r in result.reasons if r.code is code)
    assert names in reason.text
    assert reason.where
    assert reason.remedy == REMEDIES[code]
    report = seal(result)
    said = json.loads(report.to_json())
    assert said["status"] == "not_analysed"
    assert "passwd" not in report.to_json()
    assert seal(process(reversed(files))).same_as(report)


def test_every_fault_is_named_not_only_the_first(
    process: Process, dicom: Any, slices: Slices
) -> None:
    dicom.say(slices[2], RescaleSlope=None)
    dicom.say(slices[5], PixelSpacing=[-1, 1])
    dicom.say(slices[9], PixelData=None)
    found = codes(process(dicom.all(slices)).reasons)
    assert found[:3] == [Code.INVALID_VALUE, Code.MISSING_RESCALE, Code.MISSING_PIXELS]


def test_two_phases_are_dynamic_and_the_larger_one_is_analysed(
    process: Process, dicom: Any, seal: Any
) -> None:
    first = dicom.chest(AcquisitionNumber=1)
    second = dicom.chest(AcquisitionNumber=2, shift_hu=3)
    for i, ds in enumerate(second):
        dicom.say(ds, SOPInstanceUID=f"1.2.3.8.{i}")
    result = process(dicom.all([*first[1:], *second]))
    assert result.status is Status.ANALYSED
    assert Code.DYNAMIC in codes(result.limitations)
    assert "2 phases" in next(r.text for r in result.limitations if r.code is Code.DYNAMIC)
    assert result.facts.slices == 47
    keys = {f.key_sop_instance_uid for f in result.findings}
    assert keys <= {ds.SOPInstanceUID for ds in second}
    assert seal(process(dicom.all([*reversed(second), *first[1:]]))).same_as(seal(result))


def test_phases_that_no_tag_tells_apart_are_refused(process: Process, dicom: Any) -> None:
    second = dicom.chest(shift_hu=3)
    for i, ds in enumerate(second):
        dicom.say(ds, SOPInstanceUID=f"1.2.3.8.{i}")
    result = process(dicom.all([*dicom.chest(), *second]))
    assert codes(result.reasons) == [Code.DYNAMIC]
    assert "24 of 24" in result.reasons[0].text


def test_a_copy_under_another_uid_is_used_once_and_said(
    process: Process, dicom: Any, slices: Slices, good: Result
) -> None:
    copy = dicom.bytes(slices[6])
    dicom.say(slices[6], SOPInstanceUID="1.2.3.77")
    result = process([*dicom.all(slices), copy])
    assert Code.DUPLICATE_POSITION in codes(result.limitations)
    assert [f.center_lps_mm for f in result.findings] == [f.center_lps_mm for f in good.findings]


NAMES = {
    "GB18030": ("GB18030", "王^小东"),
    "GBK": ("GBK", "张^伟"),
    "ISO 2022 IR 87": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    "ISO 2022 IR 149": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
    "latin-1": ("ISO_IR 100", "Buc^Jérôme"),
    "an unknown character set": ("KLINGON", "Worf"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_character_set_are_analysed_normally(
    name: str, process: Process, dicom: Any, good: Result
) -> None:
    charset, person = NAMES[name]
    files = dicom.all(
        dicom.chest(
            SpecificCharacterSet=charset, PatientName=person, StudyDescription=person,
            ProtocolName=person,
        )
    )  # fmt: skip
    assert same(process(files), good)


def test_bytes_that_are_no_characters_at_all_are_analysed_normally(
    process: Process, dicom: Any, slices: Slices, good: Result
) -> None:
    for ds in slices:
        ds.PatientName = "X" * 12
    files = [
        f.replace(b"X" * 12, b"\xff\x1b$B\x80\xfe\x00\x1b\x0e\xc3\x28!") for f in dicom.all(slices)
    ]
    assert b"\xff\x1b$B" in files[0]
    assert same(process(files), good)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_that_can_be_flipped_in_a_file_raises(
    data: st.DataObject, tiny: Bundle, dicom: Any
) -> None:
    """Random bytes in the header of one image: a fold and a Result, never an exception."""
    files = list(_files(dicom)[:3])
    spoilt = bytearray(files[1])
    for _ in range(data.draw(st.integers(1, 8))):
        spoilt[data.draw(st.integers(0, 1600))] = data.draw(st.integers(0, 255))
    files[1] = bytes(spoilt)
    result = line.process(files, tiny, None)
    assert result.status is Status.NOT_ANALYSED
    assert result.reasons
