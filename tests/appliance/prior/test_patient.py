"""Whose exam it is: which ids are the same, which are none, and which date counts."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.lines.compare import days_between
from appliance.naming import Naming
from appliance.prior import patient
from appliance.prior.entry import Person
from appliance.prior.patient import NotKept, Said
from rigs.chests import Dicom
from rigs.reports import NAMING

MADE = Dicom()
IMAGE = MADE.chest()[0]
OTHER_SITE = Naming(bytes(32))


def said(**tags: object) -> Said:
    """What a real image says with these tags."""
    plain = {"PatientID": "a12", "PatientBirthDate": "19500102", "PatientSex": "F", **tags}
    return patient.said(MADE.bytes(MADE.say(MADE._own(IMAGE), **plain)))


def key(*, issuer: str = "", **tags: object) -> str:
    found = patient.person([said(**tags)], NAMING, issuer=issuer)
    assert isinstance(found, Person), found
    return found.key


def code(*images: Said, dummies: tuple[str, ...] = ()) -> str:
    found = patient.person(images, NAMING, dummies=dummies)
    assert isinstance(found, NotKept), found
    return found.code


def test_the_key_is_of_issuer_and_id_and_of_no_use_at_another_site() -> None:
    assert key() == NAMING.patient("", "a12") == patient.key_of(NAMING, "", "a12")
    assert key() != OTHER_SITE.patient("", "a12")
    assert "a12" not in repr(said())


def test_outer_spaces_are_no_part_of_an_id_and_all_else_is() -> None:
    assert key(PatientID="  a12 ") == key(PatientID="a12")
    for other in ("A12", "a 12", "a12.", "a-12", "0a12", "á12"):
        assert key(PatientID=other, SpecificCharacterSet="ISO_IR 192") != key(PatientID="a12")


def test_two_issuers_are_two_people_and_an_absent_one_is_that_of_the_settings() -> None:
    assert key(IssuerOfPatientID="north") != key(IssuerOfPatientID="south")
    assert key(issuer="north") == key(IssuerOfPatientID=" north ") != key()


@pytest.mark.parametrize(
    ("character_set", "patient_id"),
    [("ISO_IR 100", "Ä12"), ("ISO_IR 192", "山12"), ("GB18030", "王12"), ("GB18030", "丂12")],
)
def test_an_id_is_the_same_in_every_character_set_and_typed_in(
    character_set: str, patient_id: str
) -> None:
    sent = key(PatientID=patient_id, SpecificCharacterSet=character_set)
    assert sent == patient.key_of(NAMING, "", patient_id)


def test_bytes_that_are_not_of_their_character_set_are_no_id() -> None:
    data = MADE.bytes(
        MADE.say(MADE._own(IMAGE), PatientID="abcd", SpecificCharacterSet="ISO_IR 192")
    )
    assert code(patient.said(data.replace(b"abcd", b"ab\xff\xfe"))) == "id_unreadable"
    assert code(patient.said(data.replace(b"abcd", b"ab\x07d"))) == "id_unreadable"
    assert code(patient.said(data.replace(b"abcd", b"ab\\d"))) == "id_unreadable"


@pytest.mark.parametrize(
    "patient_id", ["ANONYMOUS", "Anonymous", "anon", "0", "0000000", "00-00", "TEST", "test", "QA"]
)
def test_an_id_that_many_share_is_none(patient_id: str) -> None:
    assert code(said(PatientID=patient_id)) == "id_dummy"
    assert patient.key_of(NAMING, "", patient_id) is None


def test_an_id_that_the_settings_name_is_none() -> None:
    assert code(said(PatientID="EMERGENCY"), dummies=("emergency ",)) == "id_dummy"


@pytest.mark.parametrize("patient_id", [None, "", "   "])
def test_without_an_id_nothing_is_kept(patient_id: str | None) -> None:
    assert code(said(PatientID=patient_id)) == "id_missing"
    assert code() == "id_missing"


def test_a_series_of_several_ids_or_issuers_is_nobodys() -> None:
    assert code(said(), said(), said(PatientID="b34")) == "ids_differ"
    assert code(said(), said(PatientID=None)) == "ids_differ"
    assert code(said(), said(IssuerOfPatientID="north")) == "ids_differ"


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        ({"PatientID": "b34"}, False),
        ({"PatientID": "A12"}, False),
        ({"IssuerOfPatientID": "south"}, False),
        ({"IssuerOfPatientID": ""}, True),
        ({"PatientID": ""}, True),
        ({"PatientID": " a12 "}, True),
    ],
)
def test_a_study_of_which_another_series_names_another_patient_is_nobodys(
    other: dict[str, str], kept: bool
) -> None:
    own = said(IssuerOfPatientID="north")
    found = patient.person([own], NAMING, beside=[said(**{"IssuerOfPatientID": "north", **other})])
    assert isinstance(found, Person) == kept
    if isinstance(found, NotKept):
        assert found.code == "ids_differ"


def test_no_text_repeats_an_id() -> None:
    for images in ([said(), said(PatientID="b34")], [said(PatientID="TEST")]):
        found = patient.person(images, NAMING)
        assert isinstance(found, NotKept)
        assert not {"a12", "b34", "TEST"} & set(found.text.replace(".", " ").split())


def check(what: str, *images: Said) -> Any:
    return getattr(patient.person(images, NAMING), what)


def test_birth_date_and_sex_are_hashed_apart() -> None:
    assert check("birth_date", said()) == NAMING.of_patient("birth date", "19500102")
    assert check("sex", said(PatientSex="m")) == NAMING.of_patient("sex", "M")
    assert check("birth_date", said()) == check("birth_date", said(PatientID="b34"))


@pytest.mark.parametrize("born", [None, "", "00000000", "19000101", "19501302", "1950", "unknown"])
def test_an_impossible_birth_date_is_unknown(born: str | None) -> None:
    assert check("birth_date", said(PatientBirthDate=born)) is None


@pytest.mark.parametrize("sex", [None, "", "O", "X"])
def test_a_sex_that_says_nothing_is_unknown(sex: str | None) -> None:
    assert check("sex", said(PatientSex=sex)) is None


def test_what_differs_between_images_is_unknown_and_what_one_leaves_out_is_not() -> None:
    assert check("birth_date", said(), said(PatientBirthDate="19500103")) is None
    assert check("birth_date", said(), said(PatientBirthDate=None)) == check("birth_date", said())


def dated(**tags: object) -> str | None:
    names = ("Acquisition", "Series", "Study")
    none = {f"{n}{what}": None for n in names for what in ("Date", "Time")}
    bare = MADE.say(MADE._own(IMAGE))
    for name in none:
        if name in bare:
            MADE.say(bare, **{name: None})
    return patient.taken([patient.said(MADE.bytes(MADE.say(bare, **tags)))])


def test_the_date_is_of_the_acquisition_else_of_the_series_else_of_the_study() -> None:
    study = {"StudyDate": "20200101", "StudyTime": "101112"}
    series = {**study, "SeriesDate": "20200102", "SeriesTime": "0910"}
    assert dated() is None
    assert dated(**study) == "20200101101112"
    assert dated(**series) == "20200102091000"
    assert dated(**series, AcquisitionDate="20200103") == "20200103"
    whole = dated(**series, AcquisitionDateTime="20200104111213.5+0800")
    assert whole == "20200104111213"


@pytest.mark.parametrize("day", ["19000101", "19791231", "20201340", "2020", "", "00010101"])
def test_a_date_that_cannot_be_true_is_absent(day: str) -> None:
    assert dated(AcquisitionDate=day) is None
    assert dated(AcquisitionDate=day, StudyDate="20200101") == "20200101"


def test_an_impossible_time_is_left_out_and_the_earliest_image_counts() -> None:
    assert dated(StudyDate="20200101", StudyTime="256000") == "20200101"
    images = [Said(taken="20200101101112"), Said(), Said(taken="20200101101110")]
    assert patient.taken(images) == patient.taken(images[::-1]) == "20200101101110"


def test_a_leap_second_is_a_time_that_a_calendar_knows() -> None:
    said = dated(StudyDate="20161231", StudyTime="235960")
    assert said == "20161231235959"
    assert days_between(said, "20180101000000") == 365


def test_contrast_is_as_the_header_says_it() -> None:
    assert patient.contrast([said(ContrastBolusAgent="Iohexol")]) is True
    assert patient.contrast([said(ContrastBolusAgent="NONE")]) is False
    assert patient.contrast([said(ContrastBolusAgent="")]) is None
