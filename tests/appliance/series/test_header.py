"""What one instance of any IOD says of itself."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import UID

from appliance.errors import SeriesRefused
from appliance.reasons import Code
from appliance.records import Header
from appliance.series import header as header_module
from appliance.series import pixels
from appliance.series.pixels import header


def test_a_ct_header_is_read_without_its_pixels(make: Any) -> None:
    data = make.bytes(make.ct(11))
    found = header(data[: data.index(b"\xe0\x7f\x10\x00") + 12])
    assert found.modality == "CT"
    assert found.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert found.body_part == "CHEST"
    assert found.kernel == "B30f"
    assert found.patient_age_years == 63
    assert found.thickness_mm == 1.0
    assert found.instance_number == 12
    assert found.acquisition_number == 1
    assert found.gantry_tilt_deg == 0
    assert found.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert found.manufacturer == "ACME"


def test_header_and_read_say_the_same(make: Any) -> None:
    for ds in (make.ct(), make.enhanced(1)):
        data = make.bytes(ds)
        assert header(data) == pixels.read(data)[0].header


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.33", "SR"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "PR"),
        ("1.2.840.10008.5.1.4.1.1.1.1", "DX"),
        ("1.2.840.10008.5.1.4.1.1.4", "MR"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"),
    ],
)
def test_every_iod_has_a_header_and_only_ct_has_hu(
    make: Any, sop_class: str, modality: str
) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.5", modality
    data = make.bytes(ds)
    assert header(data).modality == modality
    assert make.code(data) is Code.MODALITY


def test_a_ct_without_modality_is_known_by_its_sop_class(make: Any) -> None:
    assert pixels.read(make.bytes(make.ct(Modality=None)))
    other = make.ct(Modality=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    assert make.code(make.bytes(other)) is Code.MODALITY


def test_a_head_ct_without_body_part_has_none(make: Any) -> None:
    assert header(make.bytes(make.ct(BodyPartExamined=None))).body_part is None
    assert header(make.bytes(make.ct(BodyPartExamined=""))).body_part is None


@pytest.mark.parametrize(
    "tag", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_or_empty_uids_are_refused(make: Any, tag: str, value: str | None) -> None:
    data = make.bytes(make.ct(3, **{tag: value}))
    for reader in (header, pixels.read):
        with pytest.raises(SeriesRefused) as caught:
            reader(data)
        assert caught.value.reason.code is Code.MISSING_UID
        assert caught.value.reason.where == "image 4"


NAMES = {
    "ISO_IR 100": "Müller^Jörg".encode("latin-1"),
    "ISO_IR 192": "张三^三".encode(),
    "GB18030": "Wang^XiaoDong=王^小东=".encode("gb18030"),
    "GBK": "王^小东".encode("gbk"),
    "\\ISO 2022 IR 87": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=",
    "\\ISO 2022 IR 149": b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=",
    "ISO 2022 IR 13\\ISO 2022 IR 87": b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3",
    "NO SUCH CHARSET": b"\xff\xfe\x80\x1b$X",
}


@pytest.mark.parametrize("charset", list(NAMES))
def test_a_name_in_any_character_set_changes_nothing(make: Any, charset: str) -> None:
    plain = pixels.read(make.bytes(make.ct()))
    data = make.bytes(make.ct())
    name = NAMES[charset] + b" " * (len(NAMES[charset]) % 2)
    said = charset.encode() + b" " * (len(charset) % 2)
    data = _swap(data, b"\x08\x00\x05\x00CS", said)
    data = _swap(data, b"\x10\x00\x10\x00PN", name)
    named = pixels.read(data)
    assert named[0].digest == plain[0].digest
    assert named[0].header == plain[0].header


def _swap(data: bytes, tag_and_vr: bytes, value: bytes) -> bytes:
    """Another value for a short explicit little endian element."""
    at = data.index(tag_and_vr) + 6
    length = int.from_bytes(data[at : at + 2], "little")
    return data[:at] + len(value).to_bytes(2, "little") + value + data[at + 2 + length :]


def test_spacing_between_slices_of_any_value_changes_nothing(make: Any) -> None:
    plain = pixels.read(make.bytes(make.ct()))
    for value in ("-2.5", "0", "1e6"):
        ds = make.ct()
        ds.SpacingBetweenSlices = value  # scanners write it negative; positions alone count
        (image,) = pixels.read(make.bytes(ds))
        assert (image.digest, image.header) == (plain[0].digest, plain[0].header)


@pytest.mark.parametrize(
    ("value", "years"),
    [
        ("063Y", 63),
        ("018M", 1.5),
        ("052W", 364 / 365.25),
        ("010D", 10 / 365.25),
        ("63Y", 63),
        ("", None),
        ("063", None),
        ("ABCY", None),
    ],
)
def test_the_age_is_in_years(value: str, years: float | None) -> None:
    assert header_module.age_years(value) == pytest.approx(years)


@pytest.mark.parametrize(
    ("said", "born", "day", "years", "unknown"),
    [
        ("063Y", None, "20260105", 63, False),
        ("000Y", None, "20260105", None, True),
        ("126Y", None, None, None, True),
        ("121Y", "18900101", "20260105", None, True),
        ("120Y", None, None, 120, False),
        ("000M", None, None, 0, False),
        (None, None, "20260105", None, False),
        (None, "20100301", "20260105", 15, False),
        ("000Y", "20230601", "20260105", 2, False),
        ("000Y", "20251001", "20260105", 3 / 12, False),
        ("126Y", "19600105", "20260105", 66, False),
        ("005Y", "20100106", "20260105", 15, False),
        ("005Y", "20200201", "20260105", 5, False),
        ("018Y", "20080106", "20260105", 17, False),
        ("018Y", "20080105", "20260105", 18, False),
        ("061M", "20201201", "20260105", 61 / 12, False),
        ("010D", "20260101", "20260105", 4 / 365.25, False),
        ("003W", "20251225", "20260105", 7 / 365.25, False),
        ("005Y", "20270101", "20260105", 5, False),
        ("005Y", "19000101", "20260105", 5, False),
        ("005Y", "19", "20260105", 5, False),
        ("005Y", "20200230", "20260105", 5, False),
        ("005Y", "20100106", None, 5, False),
        ("old", "20100106", "20260105", 15, False),
    ],
)
def test_the_birth_date_decides_and_an_impossible_age_is_unknown(
    said: str | None, born: str | None, day: str | None, years: float | None, unknown: bool
) -> None:
    found, is_unknown = header_module.age(said, born, [day] if day else [])
    assert found == pytest.approx(years)
    assert is_unknown is unknown


def test_a_header_has_the_age_by_the_birth_date_and_not_the_birth_date(make: Any) -> None:
    tags = {"PatientAge": "000Y", "PatientBirthDate": "19600105"}
    found = header(make.bytes(make.ct(StudyDate="", SeriesDate="20260105", **tags)))
    assert (found.patient_age_years, found.age_unknown) == (66, False)
    assert "19600105" not in repr(found)
    undated = header(make.bytes(make.ct(**tags)))
    assert (undated.patient_age_years, undated.age_unknown) == (None, True)


def species(scheme: str, code: str) -> dict[str, Any]:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodeValue = scheme, code
    return {"PatientSpeciesCodeSequence": [item]}


@pytest.mark.parametrize(
    ("tags", "other"),
    [
        ({}, False),
        ({"PatientSpeciesDescription": ""}, False),
        ({"PatientSpeciesDescription": "Homo sapiens"}, False),
        ({"PatientSpeciesDescription": "HUMAN "}, False),
        ({"PatientSpeciesCodeSequence": []}, False),
        (species("SCT", "337915000"), False),
        (species("SRT", "L-85B00"), False),
        ({"PatientSpeciesDescription": "Canine"}, True),
        ({"PatientSpeciesDescription": "unknown"}, True),
        (species("SCT", "448771007"), True),
        (species("99ACME", "337915000"), True),
        ({"PatientSpeciesDescription": "Human", **species("SRT", "L-80700")}, True),
    ],
)
def test_a_patient_is_human_unless_the_header_says_anything_else(
    make: Any, tags: dict[str, Any], other: bool
) -> None:
    assert header(make.bytes(make.ct(**tags))).other_species is other


def test_a_species_that_cannot_be_read_is_another_one(make: Any) -> None:
    ds = make.ct()
    ds.add_new(0x00102202, "LO", "Canine")
    assert header(make.bytes(ds)).other_species


def test_burned_in_text_and_lossy_compression_are_read(make: Any) -> None:
    plain = header(make.bytes(make.ct(BurnedInAnnotation="NO", LossyImageCompression="00")))
    assert (plain.burned_in, plain.lossy) == (False, False)
    said = header(make.bytes(make.ct(BurnedInAnnotation="YES", LossyImageCompression="01")))
    assert (said.burned_in, said.lossy) == (True, True)


def test_the_digest_of_a_header_that_says_nothing_new_is_that_of_the_release_before() -> None:
    """Reports of series that were refused unread keep their ids."""
    old = (
        "Header(sop_class_uid='1.2', sop_instance_uid='1.3', study_uid='1.4', series_uid='1.5', "
        "frame_of_reference_uid=None, modality='CT', image_type=('ORIGINAL',), body_part=None, "
        "kernel=None, patient_age_years=63.0, thickness_mm=None, instance_number=4, "
        "acquisition_number=None, temporal_position=None, cardiac_phase=None, "
        "gantry_tilt_deg=None, expected_images=None, manufacturer=None, transfer_syntax_uid=None)"
    )
    now = Header("1.2", "1.3", "1.4", "1.5", modality="CT", image_type=("ORIGINAL",),
                 patient_age_years=63.0, instance_number=4, transfer_syntax_uid="1.2.840.10008.1.2",
                 lossy=True)  # fmt: skip
    assert header_module.digest(now) == ("1.3", hashlib.sha256(old.encode()).hexdigest())
    animal = replace(now, other_species=True)
    assert header_module.digest(animal) != header_module.digest(now)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"ImagesInAcquisition": 120}, 120),
        ({"ImagesInAcquisition": 120, "NumberOfSeriesRelatedInstances": 60}, 60),
        ({"NumberOfStudyRelatedInstances": 500}, None),
        ({"NumberOfStudyRelatedInstances": 500, "NumberOfStudyRelatedSeries": 3}, None),
        ({"NumberOfStudyRelatedInstances": 500, "NumberOfStudyRelatedSeries": 1}, 500),
        ({"ImagesInAcquisition": 0}, None),
    ],
    ids=str,
)
def test_the_announced_count_is_that_of_the_series(
    make: Any, tags: dict[str, int], expected: int | None
) -> None:
    assert header(make.bytes(make.ct(**tags))).expected_images == expected


def test_what_does_not_parse_but_only_names_is_unknown(make: Any) -> None:
    ds = make.ct()
    data = make.bytes(ds)
    data = _swap(data, b"\x20\x00\x13\x00IS", b"twelve")
    data = _swap(data, b"\x10\x00\x10\x10AS", b"old ")
    found = header(data)
    assert found.instance_number is None
    assert found.patient_age_years is None
    assert pixels.read(data)[0].header == found


def test_a_thickness_of_zero_is_unknown(make: Any) -> None:
    assert header(make.bytes(make.ct(SliceThickness="0"))).thickness_mm is None


def test_the_first_kernel_is_the_kernel(make: Any) -> None:
    assert header(make.bytes(make.ct(ConvolutionKernel=["Br38f", "3"]))).kernel == "Br38f"


def test_explicit_vr_under_an_implicit_name_is_read_as_it_is(make: Any) -> None:
    data = make.bytes(make.ct())
    at = data.index(b"\x02\x00\x10\x00UI")
    renamed = data[:at] + _swap(data[at:], b"\x02\x00\x10\x00UI", b"1.2.840.10008.1.2\0")
    assert header(renamed).series_uid == header(data).series_uid
    assert UID(header(renamed).transfer_syntax_uid or "").is_implicit_VR
