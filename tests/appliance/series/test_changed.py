"""Two headers of one image: what decides, what is noted, and what is no change at all."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from appliance.series.changed import DECISIVE, NOTED, Changed, changed

SAME = Changed((), ())
SAID: dict[str, Any] = {
    "PatientID": "PID-1",
    "PatientName": "Roe^Jane",
    "PatientBirthDate": "19470731",
    "PatientAge": "070Y",
    "BodyPartExamined": "CHEST",
    "AcquisitionNumber": 2,
    "ConvolutionKernel": "B45f",
}


def species(code: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code, "SCT"
    return Sequence([item])


def image(make: Any, syntax: str | None = None, **tags: Any) -> bytes:
    ds = make.ct(5, **{**SAID, **tags})
    whole: bytes = make.bytes(ds, syntax) if syntax else make.bytes(ds)
    return whole


CORRECTIONS: list[tuple[str, dict[str, Any]]] = [
    ("Patient ID", {"PatientID": "PID-2"}),
    ("Patient ID", {"PatientID": ""}),
    ("birth date", {"PatientBirthDate": "19480731"}),
    ("age", {"PatientAge": "071Y"}),
    ("species", {"PatientSpeciesCodeSequence": species("1")}),
    ("body part", {"BodyPartExamined": "HEAD"}),
    ("body part", {"BodyPartExamined": None}),
    ("image type", {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
    ("acquisition", {"AcquisitionNumber": 3}),
    ("acquisition", {"TemporalPositionIdentifier": 1}),
    ("burned in annotation", {"BurnedInAnnotation": "YES"}),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("name", {"PatientName": "Roe^Jane^^Dr"}),
    ("modality", {"Modality": "PT"}),
    ("frame of reference", {"FrameOfReferenceUID": "1.2.3"}),
    ("kernel", {"ConvolutionKernel": "B30f"}),
    ("thickness", {"SliceThickness": "2.5"}),
    ("instance number", {"InstanceNumber": 77}),
    ("manufacturer", {"Manufacturer": "Other"}),
]


@pytest.mark.parametrize(("name", "tags"), CORRECTIONS)
def test_a_correction_of_what_decides_is_named(make: Any, name: str, tags: dict[str, Any]) -> None:
    assert changed(image(make, **tags), image(make)) == Changed((name,), ())
    assert changed(image(make), image(make, **tags)) == Changed((name,), ())


@pytest.mark.parametrize(("name", "tags"), OTHERS)
def test_what_does_not_decide_is_noted(make: Any, name: str, tags: dict[str, Any]) -> None:
    assert changed(image(make, **tags), image(make)) == Changed((), (name,))


def test_every_row_of_the_tables_has_its_example() -> None:
    assert {name for name, _ in CORRECTIONS} == set(DECISIVE)
    assert {name for name, _ in OTHERS} == set(NOTED)


def test_names_that_differ_in_characters_beyond_ascii_differ(make: Any) -> None:
    first, second = (
        image(make, PatientName=name, SpecificCharacterSet="ISO_IR 192")
        for name in ("Müller", "Möller")
    )
    assert changed(first, second) == Changed((), ("name",))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_another_transfer_syntax_changes_no_header(make: Any, syntax: str) -> None:
    assert changed(image(make, syntax), image(make)) == SAME


def test_padding_and_a_growing_count_are_no_change(make: Any) -> None:
    other = image(
        make, PatientID="PID-1 ", BodyPartExamined="CHEST ", NumberOfSeriesRelatedInstances=9
    )
    assert changed(other, image(make)) == SAME


def test_what_has_no_header_to_decide_by_is_left_to_the_analysis(make: Any) -> None:
    assert changed(image(make, SOPClassUID=None, PatientID="PID-2"), image(make)) == SAME
