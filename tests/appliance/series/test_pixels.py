"""Bytes of one instance -> frames in HU, or the reason why not."""

from __future__ import annotations

import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from appliance.errors import SeriesRefused
from appliance.reasons import REMEDIES, Code
from appliance.series import pixels

NATIVE = {
    "implicit little endian": "1.2.840.10008.1.2",
    "explicit little endian": "1.2.840.10008.1.2.1",
    "explicit big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
}
ENCODED = {
    "RLE": ("1.2.840.10008.1.2.5", {"encoding_plugin": "pylibjpeg"}),
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", {"encoding_plugin": "pyjpegls"}),
    "JPEG 2000 lossless": ("1.2.840.10008.1.2.4.90", {"encoding_plugin": "pylibjpeg"}),
}


def unsigned(make: Any) -> Dataset:
    return make.ct(5)


def signed(make: Any) -> Dataset:
    """12 bits of 16, two's complement, as many Siemens and GE images are."""
    values = make.stored().astype(np.int16) - 1024
    return make.ct(5, stored=values, BitsStored=12, RescaleIntercept="0")


def padded(make: Any) -> Dataset:
    values = make.stored().astype(np.int16) - 1024
    values[:4] = -2000
    return make.ct(5, stored=values, RescaleIntercept="0", PixelPaddingValue=-2000)


# --- every lossless transfer syntax of an image is the same image


@pytest.mark.parametrize("image", [unsigned, signed, padded])
@pytest.mark.parametrize("syntax", NATIVE.values(), ids=list(NATIVE))
def test_a_native_transfer_syntax_gives_the_same_digest(make: Any, image: Any, syntax: str) -> None:
    (first,) = pixels.read(make.bytes(image(make)))
    (other,) = pixels.read(make.bytes(image(make), syntax))
    assert other.header.transfer_syntax_uid == syntax
    np.testing.assert_array_equal(other.hu, first.hu)
    assert other.digest == first.digest


@pytest.mark.parametrize("image", [unsigned, signed, padded])
@pytest.mark.parametrize(("syntax", "how"), ENCODED.values(), ids=list(ENCODED))
def test_an_encapsulated_transfer_syntax_gives_the_same_digest(
    make: Any, image: Any, syntax: str, how: dict[str, Any]
) -> None:
    (first,) = pixels.read(make.bytes(image(make)))
    (other,) = pixels.read(make.compressed(image(make), syntax, **how))
    np.testing.assert_array_equal(other.hu, first.hu)
    assert other.digest == first.digest


@pytest.mark.parametrize("image", [unsigned, signed])
@pytest.mark.parametrize("first_order", [True, False])
def test_jpeg_lossless_gives_the_same_digest(
    make: Any, image: Any, first_order: bool, tmp_path: Path
) -> None:
    (first,) = pixels.read(make.bytes(image(make)))
    (other,) = pixels.read(make.jpeg_lossless(image(make), tmp_path, first_order=first_order))
    np.testing.assert_array_equal(other.hu, first.hu)
    assert other.digest == first.digest


def test_another_position_or_pixel_is_another_digest(make: Any) -> None:
    (first,) = pixels.read(make.bytes(make.ct(5)))
    (moved,) = pixels.read(make.bytes(make.ct(5, ImagePositionPatient=[-12, -16, 5.01])))
    (changed,) = pixels.read(make.bytes(make.ct(5, RescaleIntercept="-1023")))
    assert len({first.digest, moved.digest, changed.digest}) == 3


def test_8_bit_pixels_of_odd_number_are_read_in_both_byte_orders(make: Any) -> None:
    values = np.arange(15, dtype=np.uint8).reshape(3, 5)
    (little,) = pixels.read(make.bytes(make.ct(stored=values)))
    ds = make.ct(stored=values)
    ds["PixelData"].VR = "OB"
    (big,) = pixels.read(make.bytes(ds, NATIVE["explicit big endian"]))
    np.testing.assert_array_equal(little.hu, values.astype(np.int16) - 1024)
    assert big.digest == little.digest


# --- stored values, rescale, padding


def test_hu_are_slope_times_stored_value_plus_intercept(make: Any) -> None:
    (image,) = pixels.read(make.bytes(make.ct()))
    assert image.hu.dtype == np.int16
    np.testing.assert_array_equal(image.hu, make.stored().astype(np.int16) - 1024)
    assert not image.padding


@pytest.mark.parametrize(
    ("kind", "low", "high", "slope", "intercept"),
    [
        (np.uint16, 0, 4095, 1, -1024),
        (np.uint16, 0, 33000, 1, -1024),  # a stored value beyond int16, its HU is not
        (np.uint16, 0, 65535, 1, -32768),  # all of int16
        (np.uint16, 60000, 65535, 1, -65000),  # an intercept beyond int16
        (np.int16, -32768, 32767, -1, -1),
        (np.int16, -2000, 3000, -3, 20000),
        (np.int16, -100, 100, 300, 70),
        (np.uint16, 0, 65535, 1, -32767),  # one more than int16 holds
        (np.int16, -32768, 32767, 1, -1),  # one less
    ],
)
def test_whole_hu_are_exact_and_int16_just_where_they_fit(
    make: Any, kind: type, low: int, high: int, slope: int, intercept: int
) -> None:
    values = np.random.default_rng(2).integers(low, high, (8, 6), kind, endpoint=True)
    values.flat[:2] = low, high
    said = {"RescaleSlope": str(slope), "RescaleIntercept": str(intercept)}
    (image,) = pixels.read(make.bytes(make.ct(stored=values, BitsStored=16, **said)))
    exact = values.astype(np.int64) * slope + intercept
    fits = exact.min() >= -32768 and exact.max() <= 32767
    assert image.hu.dtype == (np.int16 if fits else np.float32)
    np.testing.assert_array_equal(image.hu, exact)


def test_a_fractional_slope_gives_float32(make: Any) -> None:
    (image,) = pixels.read(make.bytes(make.ct(RescaleSlope="0.5", RescaleIntercept="-1000.5")))
    assert image.hu.dtype == np.float32
    np.testing.assert_allclose(image.hu, make.stored() * 0.5 - 1000.5)


def test_hu_beyond_16_bits_are_float32(make: Any) -> None:
    (image,) = pixels.read(make.bytes(make.ct(RescaleSlope="100", RescaleIntercept="0")))
    assert image.hu.dtype == np.float32
    assert image.hu.max() == int(make.stored().max()) * 100


@pytest.mark.parametrize("kind", [np.int32, np.uint32])
def test_32_bit_pixels_are_read(make: Any, kind: type) -> None:
    (image,) = pixels.read(make.bytes(make.ct(stored=make.stored().astype(kind))))
    np.testing.assert_array_equal(image.hu, make.stored().astype(np.int16) - 1024)


def test_bits_above_bits_stored_are_no_part_of_a_value(make: Any) -> None:
    overlaid = make.stored() | np.uint16(0x8000)
    (image,) = pixels.read(make.bytes(make.ct(stored=overlaid)))
    np.testing.assert_array_equal(image.hu, make.stored().astype(np.int16) - 1024)


def test_the_sign_is_extended_from_bits_stored(make: Any) -> None:
    values = make.stored().astype(np.int16) - 1024
    cut = (values & 0x0FFF).astype(np.int16)
    (image,) = pixels.read(make.bytes(make.ct(stored=cut, BitsStored=12, RescaleIntercept="0")))
    np.testing.assert_array_equal(image.hu, values)


def test_padding_becomes_air_and_is_told(make: Any) -> None:
    (image,) = pixels.read(make.bytes(padded(make)))
    assert image.padding
    assert (image.hu[:4] == -1000).all()
    np.testing.assert_array_equal(image.hu[4:], make.stored()[4:].astype(np.int16) - 1024)


def test_padding_written_as_us_in_signed_pixels_means_the_same_bits(make: Any) -> None:
    ds = padded(make)
    ds.PixelPaddingValue = None
    ds.add_new(0x00280120, "US", 65536 - 2000)
    (image,) = pixels.read(make.bytes(ds))
    assert (image.hu[:4] == -1000).all()


def test_a_padding_range_is_inclusive_and_either_way_round(make: Any) -> None:
    values = make.stored()
    values[0], values[1], values[2] = 0, 10, 20
    ds = make.ct(stored=values, PixelPaddingValue=20, PixelPaddingRangeLimit=0)
    (image,) = pixels.read(make.bytes(ds))
    assert (image.hu[:3] == -1000).all()
    assert (image.hu[3:] != -1000).sum() > 0


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_a_padding_value_beyond_bits_stored_is_not_cut_to_tissue(make: Any, kind: type) -> None:
    values = make.stored().astype(kind)
    values[:4] = kind(-3000 if kind is np.int16 else 63536)
    ds = make.ct(stored=values, BitsStored=12, PixelPaddingValue=int(values[0, 0]))
    (image,) = pixels.read(make.bytes(ds))
    assert image.padding
    assert (image.hu[:4] == -1000).all()
    np.testing.assert_array_equal(image.hu[4:], make.stored()[4:].astype(np.int16) - 1024)


def test_a_padding_value_that_never_occurs_changes_nothing(make: Any) -> None:
    (image,) = pixels.read(make.bytes(make.ct(PixelPaddingValue=4095)))
    assert not image.padding


def test_a_padding_value_that_is_tissue_is_refused_and_punches_no_holes(make: Any) -> None:
    values = make.stored()
    values[24, 32] = 1024
    refusal = make.refusal(make.bytes(make.ct(stored=values, PixelPaddingValue=1024)))
    assert refusal.reason.code is Code.INVALID_VALUE
    assert "0 HU" in refusal.text


def test_monochrome1_in_ct_keeps_its_values(make: Any) -> None:
    (image,) = pixels.read(make.bytes(make.ct(PhotometricInterpretation="MONOCHROME1")))
    np.testing.assert_array_equal(image.hu, make.stored().astype(np.int16) - 1024)


@pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_rescale_is_refused(make: Any, tag: str, value: str | None) -> None:
    assert make.code(make.bytes(make.ct(**{tag: value}))) is Code.MISSING_RESCALE


def raw(ds: Dataset, tag: int, vr: str, value: bytes) -> Dataset:
    """Put bytes of any VR under a tag, unchecked."""
    from pydicom.dataelem import RawDataElement  # noqa: PLC0415
    from pydicom.tag import Tag  # noqa: PLC0415

    ds[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    return ds


@pytest.mark.parametrize(
    "value", [b"0 ", b"0.0 ", b"NaN ", b"inf ", b"-inf", b"1,5 ", b"one ", b"1_0 "]
)
@pytest.mark.parametrize("tag", [0x00281053])
def test_an_impossible_slope_is_refused(make: Any, tag: int, value: bytes) -> None:
    data = make.bytes(raw(make.ct(3), tag, "DS", value))
    refusal = make.refusal(data)
    assert refusal.reason.code is Code.INVALID_VALUE
    assert "image 4" in refusal.text
    assert "0028,1053" in refusal.text


def test_a_slope_that_overflows_is_refused(make: Any) -> None:
    assert make.code(make.bytes(make.ct(RescaleSlope="1e300"))) is Code.INVALID_VALUE


def test_a_modality_lut_or_another_unit_is_refused(make: Any) -> None:
    lut = make.ct()
    lut.ModalityLUTSequence = [Dataset()]
    assert make.code(make.bytes(lut)) is Code.UNSUPPORTED_PIXELS
    for other in ("US", "Z_EFF", "MGML", "HU_MOD", "HOUNSFIELD_MOD", "H"):
        assert make.code(make.bytes(make.ct(RescaleType=other))) is Code.UNSUPPORTED_PIXELS
    for hu in ("HU", "hu", "[HU]", "H.U.", "Houndsfield Unit", "HOUNSFIELD", "Hounsfeld units"):
        assert pixels.read(make.bytes(make.ct(RescaleType=hu)))


# --- multi-frame


@pytest.mark.parametrize("syntax", [NATIVE["implicit little endian"], NATIVE["deflated"]])
def test_an_enhanced_ct_gives_each_frame_its_own_place(make: Any, syntax: str) -> None:
    images = pixels.read(make.bytes(make.enhanced(3), syntax))
    assert [i.frame for i in images] == [0, 1, 2]
    assert [i.geometry.position_lps_mm[2] for i in images] == [0.0, 2.0, 4.0]
    assert {i.geometry.spacing_mm for i in images} == {(0.75, 0.7)}
    assert [i.header.temporal_position for i in images] == [1, 2, 3]
    assert {i.header.thickness_mm for i in images} == {1.5}
    assert {i.header.acquisition_number for i in images} == {7}
    assert images[0].header.image_type == ("ORIGINAL", "PRIMARY", "VOLUME", "NONE")
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image.hu, make.stored(seed=index).astype(np.int16) - 1024)


def test_a_compressed_enhanced_ct_is_the_same(make: Any) -> None:
    native = pixels.read(make.bytes(make.enhanced(3)))
    coded = pixels.read(make.compressed(make.enhanced(3), *_rle()))
    assert [i.digest for i in coded] == [i.digest for i in native]


def _rle() -> tuple[str]:
    return (ENCODED["RLE"][0],)


def test_frames_without_functional_groups_are_refused(make: Any) -> None:
    ds = make.ct(NumberOfFrames=2)
    ds.PixelData = ds.PixelData * 2
    assert make.code(make.bytes(ds)) is Code.MISSING_GEOMETRY


def test_a_frame_without_position_is_named(make: Any) -> None:
    ds = make.enhanced(3)
    del ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    refusal = make.refusal(make.bytes(ds))
    assert refusal.reason.code is Code.MISSING_GEOMETRY
    assert refusal.reason.where == "image 1 frame 2"


# --- guards before decoding


@pytest.mark.parametrize("tag", ["Rows", "Columns"])
def test_zero_rows_or_columns_are_refused(make: Any, tag: str) -> None:
    assert make.code(make.bytes(make.ct(**{tag: 0}))) is Code.INVALID_VALUE


def test_absurd_rows_and_columns_are_refused_before_decoding(make: Any) -> None:
    assert make.code(make.bytes(make.ct(Rows=65535, Columns=65535))) is Code.TOO_LARGE
    assert make.code(make.bytes(make.ct()), max_pixels=100) is Code.TOO_LARGE


def test_more_rows_than_bytes_are_refused(make: Any) -> None:
    refusal = make.refusal(make.bytes(make.ct(Rows=4096, Columns=4096)))
    assert refusal.reason.code is Code.MISSING_PIXELS
    assert str(4096 * 4096 * 2) in refusal.text


def test_a_claim_of_65535_frames_is_held_against_the_bytes(make: Any) -> None:
    claim = make.enhanced(2, NumberOfFrames=65535)
    assert make.code(make.bytes(claim)) is Code.MISSING_GEOMETRY
    claim.PerFrameFunctionalGroupsSequence = list(claim.PerFrameFunctionalGroupsSequence) * 100
    claim.NumberOfFrames = 200
    assert make.code(make.bytes(claim)) is Code.MISSING_PIXELS


def test_fewer_fragments_than_frames_are_refused(make: Any) -> None:
    ds = make.enhanced(2)
    data = make.compressed(ds, *_rle())
    groups = list(ds.PerFrameFunctionalGroupsSequence)
    ds.PerFrameFunctionalGroupsSequence = groups * 2
    ds.NumberOfFrames = 4
    assert make.code(make._written(ds, ds.file_meta.TransferSyntaxUID)) is Code.MISSING_PIXELS
    assert len(pixels.read(data)) == 2


@pytest.mark.parametrize(("syntax", "how"), list(ENCODED.values())[1:], ids=list(ENCODED)[1:])
def test_a_codestream_of_another_size_is_never_decoded(
    make: Any, syntax: str, how: dict[str, Any]
) -> None:
    ds = make.ct()
    make.compressed(ds, syntax, **how)
    ds.Rows, ds.Columns = 12, 16
    refusal = make.refusal(make._written(ds, ds.file_meta.TransferSyntaxUID))
    assert refusal.reason.code is Code.UNDECODABLE_PIXELS
    assert "48 x 64" in refusal.text


@pytest.mark.parametrize(("syntax", "how"), list(ENCODED.values())[1:], ids=list(ENCODED)[1:])
def test_a_codestream_without_its_end_is_cut(make: Any, syntax: str, how: dict[str, Any]) -> None:
    ds = make.ct()
    make.compressed(ds, syntax, **how)
    ds.PixelData = ds.PixelData.replace(b"\xff\xd9", b"\xff\x00")
    refusal = make.refusal(make._written(ds, ds.file_meta.TransferSyntaxUID))
    assert refusal.reason.code is Code.UNDECODABLE_PIXELS
    assert "end marker" in refusal.text


@pytest.mark.parametrize(("syntax", "how"), ENCODED.values(), ids=list(ENCODED))
def test_broken_codestreams_are_undecodable(make: Any, syntax: str, how: dict[str, Any]) -> None:
    ds = make.ct()
    make.compressed(ds, syntax, **how)
    good = bytes(ds.PixelData)
    ds.PixelData = good[:16] + b"\x13" * (len(good) - 24) + good[-8:]
    code = make.code(make._written(ds, ds.file_meta.TransferSyntaxUID))
    assert code in {Code.UNDECODABLE_PIXELS, Code.MISSING_PIXELS}


@pytest.mark.parametrize(
    "tags",
    [
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"BitsAllocated": 12},
        {"HighBit": 15},
        {"SamplesPerPixel": None},
    ],
    ids=" ".join,
)
def test_what_is_not_plain_greyscale_is_unsupported(make: Any, tags: dict[str, Any]) -> None:
    assert make.code(make.bytes(make.ct(**tags))) is Code.UNSUPPORTED_PIXELS


@pytest.mark.parametrize(
    "tags",
    [
        {"BitsStored": 20},
        {"BitsStored": None},
        {"PixelRepresentation": 2},
        {"PixelRepresentation": None},
        {"Rows": None},
    ],
    ids=" ".join,
)
def test_an_impossible_pixel_layout_is_refused(make: Any, tags: dict[str, Any]) -> None:
    assert make.code(make.bytes(make.ct(**tags))) is Code.INVALID_VALUE


def test_no_pixel_data_is_missing_pixels(make: Any) -> None:
    assert make.code(make.bytes(make.ct(PixelData=None))) is Code.MISSING_PIXELS
    assert make.code(make.bytes(make.ct(PixelData=b""))) is Code.MISSING_PIXELS


def test_an_instance_without_any_pixel_element_is_missing_pixels(make: Any) -> None:
    names = ("PixelData", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns")
    refusal = make.refusal(make.bytes(make.ct(**dict.fromkeys(names))))
    assert refusal.reason.code is Code.MISSING_PIXELS
    assert "None" not in refusal.text


def test_what_is_no_ct_is_said_in_one_sentence(make: Any) -> None:
    odd = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66", "Modality": "DOE"}
    refusal = make.refusal(make.bytes(make.ct(**odd)))
    assert refusal.reason.code is Code.MODALITY
    assert refusal.text == "image 1: neither its SOP class nor its Modality is that of a CT"


def test_float_pixels_are_unsupported(make: Any) -> None:
    floats = make.ct(PixelData=None)
    floats.FloatPixelData = b"\0" * 16
    assert make.code(make.bytes(floats)) is Code.UNSUPPORTED_PIXELS


def test_the_remedy_for_an_unknown_transfer_syntax_is_to_send_it_uncompressed(make: Any) -> None:
    data = make.bytes(make.ct()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1)
    refusal = make.refusal(data)
    assert refusal.reason.code is Code.UNDECODABLE_PIXELS
    assert "1.2.840.10008.1.2.9" in refusal.text
    assert "uncompressed" in REMEDIES[refusal.reason.code]


def test_native_pixels_under_an_encapsulated_syntax_are_undecodable(make: Any) -> None:
    data = make.bytes(make.ct()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1)
    assert make.code(data) is Code.UNDECODABLE_PIXELS


def test_a_deflated_bomb_is_refused_but_has_a_header(make: Any) -> None:
    ds = make.ct()
    ds.PixelData = b"\0" * (80 << 20)
    bomb = make.bytes(ds, NATIVE["deflated"])
    assert make.code(bomb, max_pixels=1024) is Code.TOO_LARGE
    assert pixels.header(bomb).modality == "CT"


# --- files that are cut or no DICOM


@pytest.mark.parametrize("syntax", NATIVE.values(), ids=list(NATIVE))
def test_a_file_cut_anywhere_is_refused(make: Any, syntax: str) -> None:
    data = make.bytes(make.ct(), syntax)
    for length in range(0, len(data) - 2, 7):
        assert make.code(data[:length]) in {
            Code.UNREADABLE, Code.MISSING_UID, Code.MISSING_PIXELS, Code.MISSING_GEOMETRY,
            Code.MISSING_RESCALE, Code.UNSUPPORTED_PIXELS, Code.INVALID_VALUE, Code.MODALITY,
        }  # fmt: skip


def test_a_file_that_ends_inside_an_element_says_so(make: Any) -> None:
    data = make.bytes(make.ct())
    cut = data[: data.index(b"B30f") + 2]
    assert make.code(cut) is Code.UNREADABLE


@pytest.mark.parametrize("data", [b"", b"\0", b"<html>" * 100, b"\0" * 5000, b"\0" * 128 + b"DICM"])
def test_what_is_not_dicom_is_unreadable(make: Any, data: bytes) -> None:
    assert make.code(data) is Code.UNREADABLE
    with pytest.raises(SeriesRefused):
        pixels.header(data)


@pytest.mark.parametrize("syntax", NATIVE.values(), ids=list(NATIVE))
def test_a_header_that_was_parsed_leads_to_the_same_image(make: Any, syntax: str) -> None:
    data = make.bytes(make.ct(), syntax)
    parsed = pixels.parse(data)
    (before,), (after,) = pixels.read(data), pixels.images(parsed)
    assert parsed.header == pixels.header(data)
    assert (after.header, after.geometry, after.digest) == (
        before.header,
        before.geometry,
        before.digest,
    )


def test_parsed_pixels_that_are_cut_are_refused_in_the_same_words(make: Any) -> None:
    data = make.bytes(make.ct())[:-10]
    with pytest.raises(SeriesRefused) as caught:
        pixels.images(pixels.parse(data))
    assert caught.value.reason == make.refusal(data).reason


@pytest.mark.parametrize("syntax", list(NATIVE.values())[:2])
def test_without_preamble_it_is_the_same_image(make: Any, syntax: str) -> None:
    data = make.bytes(make.ct(), syntax)
    (whole,) = pixels.read(data)
    (bare,) = pixels.read(data[132:])
    assert bare.digest == whole.digest
    group_2 = struct.unpack_from("<I", data, 140)[0]
    (no_meta,) = pixels.read(data[144 + group_2 :])
    assert no_meta.digest == whole.digest
    assert no_meta.header.transfer_syntax_uid == syntax


# --- geometry


def test_an_image_larger_than_any_scan_is_impossible(make: Any) -> None:
    wide = np.zeros((40, 126), np.uint16)
    assert pixels.read(make.bytes(make.ct(stored=wide[:, :125].copy(), PixelSpacing=[0.5, 20])))
    refusal = make.refusal(make.bytes(make.ct(stored=wide, PixelSpacing=[0.5, 20])))
    assert refusal.reason.code is Code.INVALID_VALUE
    assert "20 x 2520 mm" in refusal.reason.text


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_geometry_is_refused(make: Any, tag: str, value: str | None) -> None:
    assert make.code(make.bytes(make.ct(**{tag: value}))) is Code.MISSING_GEOMETRY


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00280030, "DS", b"-0.7\\0.7"),
        (0x00280030, "DS", b"0\\0.7 "),
        (0x00280030, "DS", b"NaN\\0.7 "),
        (0x00280030, "DS", b"0.7 "),
        (0x00280030, "DS", b"700\\700 "),
        (0x00280030, "FD", struct.pack("<2d", float("nan"), 0.7)),
        (0x00280030, "US", b"\x01\x00"),
        (0x00280030, "OB", b"\x01\x00"),
        (0x00200032, "DS", b"nan\\0\\0 "),
        (0x00200032, "DS", b"1e9\\0\\0 "),
        (0x00200032, "LO", b"head "),
        (0x00200037, "DS", b"1\\0\\0\\0\\2\\0 "),
        (0x00200037, "DS", b"1\\0\\0\\0.1\\1\\0 "),
        (0x00200037, "DS", b"0\\0\\0\\0\\0\\0 "),
        (0x00180050, "DS", b"-1"),
        (0x00180050, "DS", b"NaN "),
        (0x00181120, "DS", b"tilt"),
        (0x00280010, "DS", b"24.5"),
        (0x00280010, "OW", b"\x18\x00"),
        (0x00280120, "OB", b"\x01\x02\x03\x04"),
        (0x00080018, "UI", b"1.2.3/../../etc "),
        (0x0020000D, "US", b"\x01\x02"),
    ],
)
def test_values_that_cannot_be_are_refused(make: Any, tag: int, vr: str, value: bytes) -> None:
    refusal = make.refusal(make.bytes(raw(make.ct(6), tag, vr, value)))
    assert refusal.reason.code is Code.INVALID_VALUE
    assert refusal.reason.where == "image 7"


def test_another_vr_of_the_same_value_is_read(make: Any) -> None:
    ds = raw(make.ct(), 0x00280030, "FD", struct.pack("<2d", 0.75, 0.7))
    raw(ds, 0x00280010, "IS", b"48")
    raw(ds, 0x00281053, "LO", b"1 ")
    (image,) = pixels.read(make.bytes(ds))
    assert image.geometry.spacing_mm == (0.75, 0.7)


def test_a_rounded_orientation_is_normalised(make: Any) -> None:
    (image,) = pixels.read(make.bytes(make.ct(ImageOrientationPatient=[1, 0, 0, 0, 0.948, -0.317])))
    assert np.linalg.norm(image.geometry.column_lps) == pytest.approx(1.0, abs=1e-12)


# --- only refusals get out


@pytest.mark.filterwarnings("error")
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=12))
@example(edits=[])
def test_mutated_bytes_raise_nothing_but_refusals(make: Any, edits: list[tuple[int, int]]) -> None:
    for data in (_plain(make), _deep(make), _coded(make)):
        broken = bytearray(data)
        for at, value in edits:
            broken[at % len(broken)] = value
        for reader in (pixels.read, pixels.header):
            with suppress(SeriesRefused):
                reader(bytes(broken))


@pytest.mark.filterwarnings("error")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(cut=st.integers(0, 1500), patch=st.binary(max_size=40))
def test_spliced_bytes_raise_nothing_but_refusals(make: Any, cut: int, patch: bytes) -> None:
    for data in (_plain(make), _deep(make)):
        broken = data[:cut] + patch + data[cut + len(patch) // 2 :]
        with suppress(SeriesRefused):
            pixels.read(broken)


_MADE: dict[str, bytes] = {}


def _plain(make: Any) -> bytes:
    if "plain" not in _MADE:
        _MADE["plain"] = make.bytes(make.ct(stored=make.stored((8, 8))))
    return _MADE["plain"]


def _deep(make: Any) -> bytes:
    if "deep" not in _MADE:
        _MADE["deep"] = make.bytes(make.enhanced(2), NATIVE["implicit little endian"])
    return _MADE["deep"]


def _coded(make: Any) -> bytes:
    if "coded" not in _MADE:
        _MADE["coded"] = make.compressed(make.ct(stored=make.stored((8, 8))), *_rle())
    return _MADE["coded"]


def test_a_panic_of_a_rust_decoder_is_a_refusal(make: Any) -> None:
    """pylibjpeg-rle panics where a run is longer than its row; a panic is no Exception."""
    ds = make.ct(stored=make.stored((8, 8)))
    make.compressed(ds, *_rle())
    data = bytearray(ds.PixelData)
    start = bytes(data).index(b"\xfe\xff\x00\xe0", 8) + 8 + 64
    for at in range(start, len(data) - 8):
        broken = bytearray(data)
        broken[at] = 0x7F if at % 2 else 0x81
        ds.PixelData = bytes(broken)
        with suppress(SeriesRefused):
            pixels.read(make._written(ds, ds.file_meta.TransferSyntaxUID))


def test_a_refusal_never_repeats_a_text_of_the_file(make: Any) -> None:
    secret = b"DOE^JANE"
    for tag, vr in ((0x00280030, "DS"), (0x00200032, "LO"), (0x00080060, "CS"),
                    (0x00280004, "CS"), (0x00281054, "LO"), (0x00080018, "UI")):  # fmt: skip
        refusal = make.refusal(make.bytes(raw(make.ct(), tag, vr, secret)))
        assert "DOE" not in refusal.text
        assert "DOE" not in (refusal.reason.where or "")


def test_a_sequence_of_endless_depth_is_refused(make: Any) -> None:
    nested = b"\x20\x00\x13\x91\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20_000
    data = make.bytes(make.ct(), NATIVE["implicit little endian"])
    assert make.code(data[:-1600] + nested) in {Code.UNREADABLE, Code.MISSING_PIXELS}


def test_no_warning_gets_out(make: Any) -> None:
    ds = raw(make.ct(), 0x00080005, "CS", b"ISO_NOT_THERE ")
    data = make.bytes(ds)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels.read(data)
