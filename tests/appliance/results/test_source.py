"""What composing takes from the headers of a series, and what it mends in them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import datadict
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage

from appliance.results.source import UTF8, in_utf8, mended, source

NAMELESS = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyID")


def header(number: int = 1, **more: Any) -> Dataset:
    """An axial image of 40 rows and 60 columns, which are 0.5 and 0.8 mm apart."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"1.2.3.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2", "1.2.3"
    made.FrameOfReferenceUID, made.InstanceNumber = "1.2.9", number
    made.ImagePositionPatient = [-10, -20, 3.0 * number]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.Rows, made.Columns = [0.5, 0.8], 40, 60
    for keyword, value in more.items():
        setattr(made, keyword, value)
    return made


def read_again(made: Dataset, **raw: bytes) -> Dataset:
    """As it comes from disk, where the values of `raw` are these bytes, whatever is right."""
    elements = {}
    for element in made:
        out = io.BytesIO()
        one = Dataset()
        one.add(element)
        one.save_as(out, implicit_vr=False, little_endian=True)
        elements[int(element.tag)] = out.getvalue()
    for keyword, value in raw.items():
        tag = datadict.tag_for_keyword(keyword)
        assert tag is not None
        vr, even = datadict.dictionary_VR(tag).encode(), value + b" " * (len(value) % 2)
        elements[tag] = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(even)) + even
    whole = b"".join(elements[tag] for tag in sorted(elements))
    return pydicom.dcmread(io.BytesIO(whole), force=True)


def test_images_stand_in_order_and_those_set_aside_are_marked() -> None:
    found = source([header(3), header(1), header(2)], analysed=["1.2.3.1", "1.2.3.3"])
    assert [(i.instance_number, i.analysed) for i in found.images] == [
        (1, True),
        (2, False),
        (3, True),
    ]
    assert found.template.SOPInstanceUID == "1.2.3.3", "the first that was analysed"
    assert (found.key.study, found.key.series) == ("1.2", "1.2.3")


def test_a_series_without_an_analysed_image_has_no_result() -> None:
    with pytest.raises(ValueError, match="was analysed"):
        source([header()], analysed=[])


def test_a_pixel_counts_from_the_corner_of_the_first_pixel() -> None:
    (image,) = source([header()]).images
    first, other = image.pixel(np.array([[-10.0, -20, 3], [-10 + 0.8 * 7, -20 + 0.5 * 4, 3]]))
    assert first == pytest.approx([0.5, 0.5])
    assert other == pytest.approx([7.5, 4.5])


def test_the_nearest_image_is_one_that_was_analysed_and_shows_the_point() -> None:
    small = header(2, Rows=2)
    found = source(
        [header(1), small, header(3), header(4)], analysed=[f"1.2.3.{n}" for n in (1, 2, 4)]
    )
    nearest = found.nearest((0.0, -10.0, 7.4))
    assert nearest is not None
    assert nearest.instance_number == 1, "2 does not show it, 3 was left out, 4 is further"
    assert nearest.away_mm((0.0, -10.0, 7.4)) == pytest.approx(4.4)
    assert found.nearest((500.0, 0.0, 3.0)) is None


def test_an_image_without_a_place_has_no_pixel() -> None:
    bare = header()
    del bare.ImagePositionPatient
    skewed = header(2, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    found = source([bare, skewed])
    assert not any(image.placed for image in found.images)
    assert found.nearest((0.0, -10.0, 3.0)) is None
    with pytest.raises(ValueError, match="no pixel"):
        found.images[0].pixel(np.zeros((1, 3)))


def test_each_frame_of_an_instance_has_a_place_of_its_own() -> None:
    made = header(NumberOfFrames=2)
    del made.ImagePositionPatient, made.PixelSpacing
    shared, measures, frames = Dataset(), Dataset(), []
    measures.PixelSpacing = [0.7, 0.7]
    shared.PixelMeasuresSequence = Sequence([measures])
    for z in (5, 8):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, z]
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    made.PerFrameFunctionalGroupsSequence = Sequence(frames)
    found = source([made]).images
    assert [(i.frame, i.position_lps_mm, i.spacing_mm) for i in found] == [
        (1, (0, 0, 5), (0.7, 0.7)),
        (2, (0, 0, 8), (0.7, 0.7)),
    ]
    assert source([header()]).images[0].frame is None


def test_what_must_be_there_and_is_missing_becomes_empty() -> None:
    found = mended(header())
    assert all(found[keyword].value in ("", None) for keyword in NAMELESS)


@pytest.mark.parametrize("day", ["20261332", "2026-01-05", "20260230", "yesterday"])
def test_an_invalid_date_becomes_empty(day: str) -> None:
    found = mended(read_again(header(), StudyDate=day.encode(), PatientBirthDate=day.encode()))
    assert (found.StudyDate, found.PatientBirthDate) == ("", "")
    assert mended(header(StudyDate="20260105")).StudyDate == "20260105"


def test_an_impossible_value_that_need_not_be_there_is_left_out() -> None:
    found = mended(read_again(header(), PatientAge=b"sixty", PatientSex=b"FEMALE"))
    assert "PatientAge" not in found
    assert found.PatientSex == ""


@pytest.mark.parametrize("uid", [b"", b"1.2.x", b"none"])
def test_no_frame_of_reference_is_said_by_none(uid: bytes) -> None:
    assert source([read_again(header(), FrameOfReferenceUID=uid)]).frame_of_reference_uid is None
    assert source([header()]).frame_of_reference_uid == "1.2.9"


def test_a_name_of_64_kilobytes_is_cut_in_each_of_its_groups() -> None:
    long = b"A" * 65000 + b"^B=" + b"C" * 300
    found = mended(read_again(header(), PatientName=long, PatientID=b"7" * 65000))
    assert str(found.PatientName) == "A" * 64 + "=" + "C" * 64
    assert found.PatientID == "7" * 64


def test_a_control_character_becomes_a_space_and_markup_stays() -> None:
    found = mended(read_again(header(), PatientName=b"<b>Doe\r\n\x07^J</b>&amp;"))
    assert str(found.PatientName) == "<b>Doe   ^J</b>&amp;"


@pytest.mark.parametrize(
    ("named", "value", "name", "becomes"),
    [
        ("ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg", "ISO_IR 100"),
        ("GB18030", "王^小倩".encode("gb18030"), "王^小倩", "GB18030"),
        ("ISO_IR 192", "אבג^דה".encode(), "אבג^דה", "ISO_IR 192"),
        ("\\ISO 2022 IR 58", b"Zhang^X=\x1b$)A\xd5\xc5", "Zhang^X=张", "ISO_IR 192"),
        ("ISO 2022 IR 6\\ISO 2022 IR 58", b"Zhang^X=\x1b$)A\xd5\xc5", "Zhang^X=张", "ISO_IR 192"),
        ("KLINGON 7", "Ünal^K".encode(), "Ünal^K", "ISO_IR 192"),
        ("KLINGON 7", b"\xdcnal^K", "\ufffdnal^K", "ISO_IR 192"),
        ("", "Müller".encode("latin-1"), "Müller", "ISO_IR 192"),
    ],
)
def test_a_name_is_the_same_in_the_character_set_that_a_result_can_have(
    named: str, value: bytes, name: str, becomes: str
) -> None:
    more = {"SpecificCharacterSet": named.encode()} if named else {}
    found = read_again(header(), PatientName=value, **more)
    result = mended(found)
    assert str(result.PatientName) == name
    assert result.SpecificCharacterSet == becomes
    out = io.BytesIO()
    in_utf8(result).save_as(out, implicit_vr=False, little_endian=True)
    again = pydicom.dcmread(io.BytesIO(out.getvalue()), force=True)
    assert (str(again.PatientName), again.SpecificCharacterSet) == (name, UTF8)


def test_a_letter_with_a_byte_5c_is_one_letter() -> None:
    """The second byte of some letters of GB18030 is that of a backslash."""
    letter = next(c for c in map(chr, range(0x4E00, 0x9FFF)) if c.encode("gb18030")[1:] == b"\\")
    made = header(SpecificCharacterSet="GB18030")
    value = f"{letter}^{letter}".encode("gb18030")
    found = mended(read_again(made, PatientName=value, PatientID=value))
    assert (str(found.PatientName), found.PatientID) == (f"{letter}^{letter}",) * 2


def test_an_item_in_a_character_set_of_its_own_is_in_that_of_the_header() -> None:
    item = Dataset()
    item.SpecificCharacterSet, item.IssuerOfPatientID = "GB18030", "医院"
    item.PatientID = "7"
    found = mended(
        read_again(header(SpecificCharacterSet="ISO_IR 192", OtherPatientIDsSequence=[item]))
    )
    (other,) = found.OtherPatientIDsSequence
    assert (other.IssuerOfPatientID, other.PatientID) == ("医院", "7")
    assert "SpecificCharacterSet" not in other


def test_pixels_and_private_elements_are_left_out() -> None:
    made = header(PixelData=b"\0\0")
    made["PixelData"].VR = "OW"
    made.add_new(0x00091010, "LO", "secret")
    found = mended(made)
    assert "PixelData" not in found
    assert 0x00091010 not in found
