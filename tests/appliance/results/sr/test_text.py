"""What has no place is a text: its first line is the verdict, whatever the scanner wrote."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.phantom import radiograph
from appliance.reasons import REMEDIES, Code
from appliance.report import Finding, Reason, Stage, Status
from appliance.results.sr.case import Case, Predecessor
from appliance.results.sr.document import ENHANCED
from appliance.results.sr.findings import measurements
from appliance.results.sr.text import text, withdrawal
from rigs import oblique

PNEUMONIA = Finding(
    id=1,
    tracking_uid="2.25.9",
    kind="pneumonia",
    score=0.8,
    threshold=0.5,
    key_image=1,
    heat_map="heat-1",
)


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def lines(made: Dataset) -> list[str]:
    """All TEXT items in the order of the tree."""
    below = made.get("ContentSequence", [])
    found = [[str(item.TextValue)] if item.ValueType == "TEXT" else lines(item) for item in below]
    return list(itertools.chain(*found))


def test_a_refusal_says_first_that_nothing_was_analysed_then_why_with_the_remedy(
    make_case: Callable[..., Case], refused: dict[str, Any], judged: Callable[..., str]
) -> None:
    images = oblique.series(oblique.POSES["gantry tilted"])
    made = text(make_case(headers=images, report=refused))
    said = lines(read(made.data))
    assert said[0] == "NOT ANALYSED"
    assert said[1].startswith("the gantry is tilted by 20 degrees.")
    assert REMEDIES[Code.GANTRY_TILT] in said[1]
    assert said[-1] == "Notice: research use, not for clinical use"
    assert "NOT ANALYSED" in judged(made.data, images)
    assert made.identified.sop_class_uid == ENHANCED
    assert highdicom.sr.EnhancedSR.from_dataset(read(made.data)).content


@pytest.mark.parametrize(
    ("report", "first"),
    [
        ({"findings": (), "limitations": ()}, "NO FINDING REACHED ITS THRESHOLD"),
        ({"findings": ()}, "NO FINDING REACHED ITS THRESHOLD, ANALYSED WITH LIMITATIONS"),
        (
            {"findings": (), "limitations": (), "stage": Stage.PRELIMINARY},
            "NO FINDING REACHED ITS THRESHOLD (PRELIMINARY)",
        ),
        (
            {
                "status": Status.FAILED,
                "findings": (),
                "limitations": (),
                "reasons": (Reason(code=Code.POISONED, text="it broke three times"),),
            },
            "ANALYSIS FAILED: THE IMAGES WERE NOT ANALYSED",
        ),
    ],
)
def test_the_first_line_is_the_verdict(
    make_case: Callable[..., Case],
    judged: Callable[..., str],
    report: dict[str, Any],
    first: str,
) -> None:
    made = text(make_case(report=report))
    assert lines(read(made.data))[0] == first
    judged(made.data)


def test_a_radiograph_names_its_image_and_has_no_coordinate(
    make_case: Callable[..., Case], judged: Callable[..., str]
) -> None:
    grey = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
    images = [
        radiograph.instance(grey, study_uid="2.25.31", series_uid="2.25.32", number=n)
        for n in (2, 1)
    ]
    case = make_case(headers=images, report={"findings": (PNEUMONIA,), "limitations": ()})
    made = text(case)
    said = judged(made.data, images)
    assert lines(read(made.data))[:2] == [
        "FINDINGS REPORTED: 1 (PNEUMONIA)",
        "Finding 1: pneumonia, detection confidence 0.800 (threshold 0.500)",
    ]
    (named,) = read(made.data).ContentSequence[1].ContentSequence[-1].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == images[0].SOPInstanceUID, "the second by its number"
    assert "SCOORD" not in said
    with pytest.raises(ValueError, match="write a text instead"):
        measurements(case)


def test_a_withdrawal_stands_in_a_series_of_its_own_and_names_what_replaces_it(
    make_case: Callable[..., Case], judged: Callable[..., str]
) -> None:
    before = measurements(make_case()).identified
    key = type(make_case().source.key)("1.2", before.series_uid)
    case = make_case(
        predecessors=(Predecessor(key, before.sop_class_uid, before.sop_instance_uid),)
    )
    made, other = withdrawal(case, "series 3, report 77"), withdrawal(case, None)
    assert lines(read(made.data))[0] == (
        "WITHDRAWN: THIS REPORT IS REPLACED BY series 3, report 77"
    )
    assert lines(read(other.data))[0].startswith("WITHDRAWN: ")
    series = {one.identified.series_uid for one in (made, other, text(case))} | {before.series_uid}
    assert len(series) == 4
    assert (
        made.identified.series_uid == withdrawal(case, "series 3, report 77").identified.series_uid
    )
    assert read(made.data).SeriesInstanceUID == made.identified.series_uid
    assert len({one.identified.sop_instance_uid for one in (made, other)}) == 2
    assert str(case.report.report_id) in "".join(lines(read(made.data)))
    judged(made.data)


NAMES = {
    "ideographic beside Latin": (r"\ISO 2022 IR 58", "Zhang^Xiao=张^小东".encode("gb2312")),
    "GB18030": ("GB18030", "王^小倩".encode("gb18030")),
    "no such character set": ("KLINGON 7", b"\xdc\xff^K"),
    "markup": ("ISO_IR 192", b"<script>alert(1)</script>^&amp;'\""),
    "right to left": ("ISO_IR 192", "אבג^\u202eדה".encode()),
    "64 kB": ("ISO_IR 100", b"A" * 64000),
    "control characters": ("ISO_IR 100", b"Doe^\x00J\r\n\x1b[31m"),
}


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("form", [text, measurements])
def test_a_name_of_any_kind_gives_a_valid_object(
    make_case: Callable[..., Case], judged: Callable[..., str], what: str, form: Any
) -> None:
    named, value = NAMES[what]
    images = oblique.series(oblique.POSES["axial"], 20)
    images[0] = with_name(images[0], named, value)
    made = form(make_case(headers=images))
    judged(made.data)
    again = read(made.data)
    assert str(again.PatientName) == str(make_case(headers=images).source.template.PatientName)
    assert "\ufffd" not in "".join(lines(again)), "our own words are whole"


@pytest.mark.parametrize("form", [text, measurements])
def test_nothing_that_a_scanner_left_out_keeps_a_report_back(
    make_case: Callable[..., Case], judged: Callable[..., str], form: Any
) -> None:
    images = oblique.series(oblique.POSES["axial"], 20)
    for image in images:
        for keyword in (
            "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
            "AccessionNumber", "StudyID", "ReferringPhysicianName", "FrameOfReferenceUID",
            "SliceThickness", "Manufacturer", "Modality",
        ):  # fmt: skip
            delattr(image, keyword)
    judged(form(make_case(headers=images)).data)


def test_words_beyond_ascii_are_readable_beside_a_name_in_another_character_set(
    make_case: Callable[..., Case], refused: dict[str, Any], judged: Callable[..., str]
) -> None:
    images = oblique.series(oblique.POSES["axial"])
    images[0] = with_name(images[0], "GB18030", "王^小倩".encode("gb18030"))
    reason = Reason(code=Code.GANTRY_TILT, text="tilted by 20° …")
    made = text(make_case(headers=images, report={**refused, "reasons": (reason,)}))
    again = read(made.data)
    assert (again.SpecificCharacterSet, str(again.PatientName)) == ("ISO_IR 192", "王^小倩")
    assert lines(again)[1].startswith("tilted by 20° …")
    judged(made.data)


@pytest.mark.parametrize("form", [text, measurements])
def test_no_warning_carries_a_name_into_the_log(
    make_case: Callable[..., Case],
    form: Any,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = oblique.series(oblique.POSES["axial"], 20)
    images[0] = with_name(images[0], "ISO_IR 100", b"SECRET")
    assert "SECRET" in str(make_case(headers=images).source.template.PatientName)
    form(make_case(headers=images))
    said = [str(one.message) for one in recwarn] + caplog.messages
    assert not [line for line in said if "SECRET" in line]


def with_name(image: Dataset, named: str, value: bytes) -> Dataset:
    """The image as it is read from disk where its name is these bytes of this character set."""
    image.SpecificCharacterSet, image.PatientName = "ISO_IR 100", "@" * len(value)
    out = io.BytesIO()
    image.save_as(out, enforce_file_format=True)
    even = len(value) + len(value) % 2
    raw = out.getvalue().replace(b"@" * len(value) + b" " * (even - len(value)), value.ljust(even))
    padded = named.encode() + b" " * (len(named) % 2)
    old = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
    new = b"\x08\x00\x05\x00CS" + len(padded).to_bytes(2, "little") + padded
    assert raw.count(old) == 1
    return pydicom.dcmread(io.BytesIO(raw.replace(old, new)))
