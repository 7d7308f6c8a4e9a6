"""UIDs for files that have none."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.reasons import Code
from appliance.series import made, pixels
from appliance.series.elements import is_uid

SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
NAMES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def given(data: bytes, folder: str = "in") -> bytes:
    lacks = made.wanting(data)
    assert lacks is not None
    return made.with_uids(data, made.parent(lacks, folder))


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("uid", ["", None, "anonymised"])
def test_the_image_is_the_same_with_uids_made_for_it(
    make: Any, syntax: str, uid: str | None
) -> None:
    (plain,) = pixels.read(make.bytes(make.ct(5), syntax))
    lacking = make.bytes(make.ct(5, **dict.fromkeys((*NAMES, "FrameOfReferenceUID"), uid)), syntax)
    assert make.code(lacking) in {Code.MISSING_UID, Code.INVALID_VALUE}
    (image,) = pixels.read(given(lacking))
    assert image.digest == plain.digest
    said = image.header
    assert all(map(is_uid, (said.sop_instance_uid, said.study_uid, said.series_uid)))
    assert said.sop_class_uid == plain.header.sop_class_uid
    assert len({said.sop_instance_uid, said.study_uid, said.series_uid}) == 3


def test_what_has_its_uids_is_left_as_it_is(make: Any) -> None:
    data = make.bytes(make.ct())
    assert made.wanting(data) is None
    assert made.with_uids(data, made.Parent("1.2", "1.3")) == data


def test_a_uid_that_is_one_stays(make: Any) -> None:
    plain = make.ct(5)
    (image,) = pixels.read(given(make.bytes(make.ct(5, SOPInstanceUID=""))))
    assert image.header.series_uid == plain.SeriesInstanceUID
    assert image.header.study_uid == plain.StudyInstanceUID


def test_a_series_of_a_folder_has_one_uid_and_each_instance_its_own(make: Any) -> None:
    blank = dict.fromkeys(NAMES, "")
    files = [make.bytes(make.ct(index, **blank)) for index in range(3)]
    first = made.wanting(files[0])
    assert first is not None
    parent = made.parent(first, "in")
    headers = [pixels.header(made.with_uids(data, parent)) for data in files]
    assert {h.series_uid for h in headers} == {parent.series}
    assert len({h.sop_instance_uid for h in headers}) == 3
    assert made.parent(first, "elsewhere") != parent


def test_the_class_is_that_of_the_file_meta_group_else_that_of_its_modality(make: Any) -> None:
    odd = make.bytes(make.ct(SOPClassUID="", Modality="MR"))
    assert pixels.header(given(odd)).sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"
    bare = odd[odd.index(b"\x08\0\x05\0CS") :]
    assert made.wanting(bare) is None
    ct = make.bytes(make.ct(SOPClassUID=""))
    assert pixels.header(given(ct[ct.index(b"\x08\0\x05\0CS") :])).modality == "CT"


def test_what_is_deflated_or_no_dicom_is_left_as_it_is(make: Any) -> None:
    assert made.wanting(make.bytes(make.ct(SOPInstanceUID=""), "1.2.840.10008.1.2.1.99")) is None
    assert made.wanting(b"a text") is None
