"""What readers said of a report is a text of its own, in which nobody is named."""

from __future__ import annotations

import io
import itertools
import uuid
from collections.abc import Callable
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.results.feedback import PlacePx
from appliance.results.sr.case import Case
from appliance.results.sr.feedback import feedback
from appliance.results.sr.findings import measurements
from rigs import oblique
from rigs.feedback import act


def lines(made: Dataset) -> list[str]:
    """All TEXT items in the order of the tree."""
    below = made.get("ContentSequence", [])
    found = [[str(item.TextValue)] if item.ValueType == "TEXT" else lines(item) for item in below]
    return list(itertools.chain(*found))


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_it_says_what_counts_of_each_finding_and_of_what_was_missed(
    make_case: Callable[..., Case], judged: Callable[..., Any]
) -> None:
    images = oblique.series(oblique.POSES["axial"], 20)
    case = make_case(headers=images)
    wrong = act(case.report, "reject", reader="cafe")
    acts = [
        act(case.report, reader="cafe"),
        wrong,
        act(case.report, "undo", undoes=wrong.uid, finding=1),
        act(case.report, "missed", role="display", reader="beef"),
    ]
    made = feedback(case, acts)
    said = lines(read(made.data))
    assert said[0] == "FEEDBACK OF READERS: 1 ACCEPTED, 0 REJECTED, 1 MARKED AS MISSED"
    assert said[1] == f"Report: {case.report.report_id}"
    assert said[2].startswith("Finding 1: nodule, 18.0 x 10.0 mm")
    assert said[2].endswith("ACCEPTED by a radiologist, 2026-01-02 12:00 UTC")
    assert said[3].endswith("not judged")
    assert said[4] == (
        "Missed: about 6 mm at x 10.0, y -20.0, z 30.5 mm (LPS), on the screen in the room, "
        "2026-01-02 12:00 UTC"
    )
    assert said[-1] == "Notice: research use, not for clinical use"
    assert not any("cafe" in line or "beef" in line for line in said)
    assert "FEEDBACK OF READERS" in judged(made.data, images)
    assert read(made.data).VerificationFlag == "UNVERIFIED"


def test_what_was_missed_on_a_radiograph_is_said_in_pixels_of_the_image_as_it_was_sent(
    make_case: Callable[..., Case],
) -> None:
    case = make_case()
    pixel = PlacePx(image=0, column=812.3, row=1204.0)
    missed = act(case.report, "missed", center_lps_mm=None, place_px=pixel, size_mm=40)
    said = lines(read(feedback(case, [missed]).data))
    assert said[0].endswith("1 MARKED AS MISSED")
    assert (
        "Missed: about 40 mm at the detector, at column 812, row 1204 of image 1 as it was sent, "
        "by a radiologist, 2026-01-02 12:00 UTC"
    ) in said


def test_the_same_acts_are_the_same_bytes_and_a_later_act_is_another_object(
    make_case: Callable[..., Case],
) -> None:
    case = make_case()
    first = act(case.report, uid=uuid.UUID(int=1))
    later = act(case.report, "reject", uid=uuid.UUID(int=2))
    once, again, more = (
        feedback(case, [first]),
        feedback(case, [first]),
        feedback(case, [first, later]),
    )
    assert once.data == again.data
    assert once.identified.sop_instance_uid != more.identified.sop_instance_uid
    assert once.identified.series_uid == more.identified.series_uid
    assert once.identified.instance_number < more.identified.instance_number
    report = measurements(case).identified
    assert once.identified.series_uid != report.series_uid
    assert once.identified.series_number != report.series_number


def test_of_a_report_of_which_nobody_said_anything_there_is_none(
    make_case: Callable[..., Case],
) -> None:
    with pytest.raises(ValueError, match="nobody"):
        feedback(make_case(), [])
