"""Reading CR and DX: every refusal, and that the same image in another form is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from appliance.errors import SeriesRefused
from appliance.reasons import Code
from appliance.records import Linear, Lut, Radiograph, VoiWindow
from appliance.series import radiograph
from rigs.xray import Xray

CR, FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"
SYNTAXES = {
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}


def read(xray: Xray, **tags: Any) -> Radiograph:
    return radiograph.read(xray.bytes(xray.image(**tags)))


def code(xray: Xray, pixels: Any = None, **tags: Any) -> Code:
    with pytest.raises(SeriesRefused) as caught:
        radiograph.read(xray.bytes(xray.image(pixels, **tags)))
    return caught.value.reason.code


def test_an_image_is_read_as_it_was_written(xray: Xray) -> None:
    image = read(xray)
    assert np.array_equal(image.stored, xray.pixels())
    assert image.grey.modality == Linear(1.0, 0.0)
    assert image.grey.voi == VoiWindow(1900.0, 3200.0, "LINEAR")
    assert not image.grey.inverse
    assert image.shown.all()
    assert image.aspect == 1.0
    assert np.array_equal(image.to_stored, np.eye(3))


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_lossless_transfer_syntax_changes_nothing(xray: Xray, name: str) -> None:
    plain = radiograph.read(xray.bytes(xray.image()))
    coded = radiograph.read(xray.bytes(xray.image(), SYNTAXES[name]))
    assert np.array_equal(plain.stored, coded.stored)
    assert plain.digest == coded.digest


def test_the_digest_tells_other_pixels_and_another_display_apart(xray: Xray) -> None:
    digests = {
        read(xray).digest,
        radiograph.read(xray.bytes(xray.image(xray.pixels(seed=1)))).digest,
        read(xray, WindowCenter=1901).digest,
        read(xray, ShutterShape="CIRCULAR", CenterOfCircularShutter=[40, 40],
             RadiusOfCircularShutter=30).digest,
        read(xray, ImagerPixelSpacing=[0.2, 0.1]).digest,
    }  # fmt: skip
    assert len(digests) == 5


def test_computed_radiography_and_images_for_processing_are_read_too(xray: Xray) -> None:
    assert read(xray, SOPClassUID=CR, Modality="CR").header.modality == "CR"
    raw = {"SOPClassUID": FOR_PROCESSING, "WindowCenter": None, "WindowWidth": None}
    assert read(xray, **raw).grey.voi is None


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}, Code.MODALITY),
        ({"SOPInstanceUID": ""}, Code.MISSING_UID),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, Code.UNSUPPORTED_PIXELS),
        ({"NumberOfFrames": 2}, Code.UNSUPPORTED_PIXELS),
        ({"PresentationLUTShape": "INVERSE"}, Code.INVALID_VALUE),
        ({"PresentationLUTShape": "ROUND"}, Code.INVALID_VALUE),
        ({"RescaleSlope": 0}, Code.INVALID_VALUE),
        ({"WindowWidth": 0}, Code.INVALID_VALUE),
        ({"WindowWidth": None}, Code.INVALID_VALUE),
        ({"VOILUTFunction": "CUBIC"}, Code.INVALID_VALUE),
        ({"ImagerPixelSpacing": [0.1, 0.9]}, Code.INVALID_VALUE),
        ({"ImagerPixelSpacing": [0, 0.1]}, Code.INVALID_VALUE),
        (
            {"SOPClassUID": FOR_PROCESSING, "PixelIntensityRelationship": "LIN"},
            Code.UNSUPPORTED_PIXELS,
        ),
        (
            {"SOPClassUID": FOR_PROCESSING, "PixelIntensityRelationshipSign": 1},
            Code.INVALID_VALUE,
        ),
    ],
)
def test_what_cannot_be_trusted_is_refused(
    xray: Xray, tags: dict[str, Any], expected: Code
) -> None:
    assert code(xray, **tags) is expected


def test_pixels_of_32_bits_are_refused(xray: Xray) -> None:
    assert code(xray, xray.pixels().astype(np.uint32)) is Code.UNSUPPORTED_PIXELS


def test_an_image_larger_than_there_is_room_for_is_refused_by_its_header(xray: Xray) -> None:
    with pytest.raises(SeriesRefused) as caught:
        radiograph.read(xray.bytes(xray.image()), max_pixels=96 * 80 - 1)
    assert caught.value.reason.code is Code.TOO_LARGE


@pytest.mark.parametrize(
    "tags",
    [
        {"ViewPosition": "LATERAL"},
        {"ViewPosition": "LL"},
        {"ViewPosition": "RLD"},
        {"ViewPosition": "XTABLE LAT"},
        {"ViewPosition": "LPO"},
        {"ViewPosition": None, "ViewCodeSequence": [{"CodeValue": "399198007"}]},
        {"ViewPosition": None, "ViewCodeSequence": [{"CodeValue": "R-10236"}]},
        {"ViewPosition": None, "ViewCodeSequence": None, "PatientOrientation": ["A", "F"]},
        {"ImageType": ["DERIVED", "PRIMARY", "", "LATERAL"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "", "RT"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "", "CHEST LAT"]},
        {"AcquisitionDeviceProcessingDescription": "CANINE LATERAL THORAX"},
        {"AcquisitionDeviceProcessingDescription": "CHEST_LAT"},
        {"ViewCodeSequence": [{"CodeValue": "L1", "CodeMeaning": "left lateral"}]},
        {"PerformedProtocolCodeSequence": [{"CodeValue": "1", "CodeMeaning": "Thorax lateral"}]},
        {"PerformedProtocolCodeSequence": [{"CodeValue": "399067008", "CodeMeaning": "x"}]},
    ],
)
def test_another_view_than_the_frontal_one_is_refused_by_name(
    xray: Xray, tags: dict[str, Any]
) -> None:
    assert code(xray, **tags) is Code.VIEW_POSITION


@pytest.mark.parametrize("view", ["AP", "PA", None, "SUPINE"])
def test_a_frontal_view_and_one_that_says_nothing_known_are_read(xray: Xray, view: Any) -> None:
    assert read(xray, ViewPosition=view).stored.size


@pytest.mark.parametrize(
    "tags",
    [
        {"AcquisitionDeviceProcessingDescription": "CHEST PA/LAT"},
        {"AcquisitionDeviceProcessingDescription": "COLLATERAL"},
        {"PerformedProtocolCodeSequence": [{"CodeMeaning": "Chest, PA and lateral"}]},
        {"ImageType": ["DERIVED", "PRIMARY", "", "POST_PROCESSED"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LATERAL"]},
    ],
)
def test_what_names_both_views_or_is_no_view_refuses_nothing(
    xray: Xray, tags: dict[str, Any]
) -> None:
    assert read(xray, **tags).stored.size


@pytest.mark.parametrize(
    ("letters", "lay"),
    [
        (["L", "F"], lambda a: a),
        (["R", "F"], lambda a: a[:, ::-1]),
        (["L", "H"], lambda a: a[::-1]),
        (["R", "H"], lambda a: a[::-1, ::-1]),
        (["F", "L"], lambda a: a.T),
        (["F", "R"], lambda a: a[::-1].T),
        (["H", "L"], lambda a: a[:, ::-1].T),
    ],
)
def test_an_image_that_lies_another_way_is_laid_upright_and_back(
    xray: Xray, letters: list[str], lay: Any
) -> None:
    """`lay` turns what was sent upright; it is its own check of the way back."""
    sent = xray.pixels()
    image = radiograph.read(xray.bytes(xray.image(sent, PatientOrientation=letters)))
    assert np.array_equal(image.stored, lay(sent))
    for row, column in ((0, 0), (3, 11), (70, 60)):
        there = np.rint(image.to_stored @ (row, column, 1)).astype(int)
        assert image.stored[row, column] == sent[there[0], there[1]]


def test_a_turned_image_has_its_pixels_turned_too(xray: Xray) -> None:
    spacing = {"ImagerPixelSpacing": [0.2, 0.1]}
    assert read(xray, **spacing).aspect == pytest.approx(2.0)
    assert read(xray, **spacing, PatientOrientation=["F", "L"]).aspect == pytest.approx(0.5)
    ratio = {"ImagerPixelSpacing": None, "PixelAspectRatio": [3, 2]}
    assert read(xray, **ratio).aspect == pytest.approx(1.5)


@pytest.mark.parametrize("representation", [0, 1])
def test_padding_counts_where_it_reaches_a_border(xray: Xray, representation: int) -> None:
    pixels = xray.pixels().astype(np.int16 if representation else np.uint16)
    pixels[:5] = pixels[:, -7:] = 9
    pixels[50, 40] = 9  # inside it is a value
    image = radiograph.read(xray.bytes(xray.image(pixels, PixelPaddingValue=9)))
    assert not image.shown[:5].any()
    assert not image.shown[:, -7:].any()
    assert image.shown[5:, :-7].all()


def test_a_voi_lut_goes_before_a_window_and_its_first_entry_may_be_negative(xray: Xray) -> None:
    table = [{"LUTDescriptor": [4, -2 & 0xFFFF, 12], "LUTData": [0, 1000, 2000, 4095]}]
    image = read(xray, VOILUTSequence=table, RescaleIntercept=-10)
    assert image.grey.voi == Lut(-2, 12, (0, 1000, 2000, 4095))
    assert read(xray, VOILUTSequence=table).grey.voi == Lut(65534, 12, (0, 1000, 2000, 4095))


def test_a_lut_of_65536_entries_is_written_as_0(xray: Xray) -> None:
    entries = np.arange(65536)
    sequence = [{"LUTDescriptor": [0, 0, 16], "ModalityLUTType": "US", "LUTData": entries}]
    lut = read(xray, ModalityLUTSequence=sequence).grey.modality
    assert isinstance(lut, Lut)
    assert len(lut.entries) == 65536


@pytest.mark.parametrize(
    "item",
    [
        {"LUTDescriptor": [4, 0, 20], "LUTData": [0, 1, 2, 3]},
        {"LUTDescriptor": [5, 0, 12], "LUTData": [0, 1, 2, 3]},
        {"LUTDescriptor": [4, 0, 10], "LUTData": [0, 1, 2, 3000]},
        {"LUTDescriptor": [4, 0], "LUTData": [0, 1, 2, 3]},
    ],
)
def test_a_table_that_contradicts_its_descriptor_is_refused(xray: Xray, item: Any) -> None:
    assert code(xray, VOILUTSequence=[item]) is Code.INVALID_VALUE
