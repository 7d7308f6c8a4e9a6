"""Which images do not belong to their series."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from appliance.reasons import Code
from appliance.records import Header
from appliance.report import Reason
from appliance.series.foreign import Sorted, Unread, causes, limitation, mixed, sort_out

CT = Header("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.1", "1.2", "1.4", "CT", patient="a")


def unread(number: int, code: Code, **header: Any) -> Unread:
    """An instance that was refused for this reason."""
    where = f"image {number}"
    said = replace(CT, sop_instance_uid=f"1.9.{number}", instance_number=number, **header)
    reason = Reason(code=code, text=f"{where}: why not", where=where)
    return Unread((f"1.9.{number}", "d"), (reason,), said)


def planes(make: Any, count: int = 40) -> list[Any]:
    return list(
        make.planes(range(count), study_uid="1.1", frame_of_reference_uid="1.4", patient="a")
    )


def upright(make: Any, number: int, degrees: float = 90.0) -> Any:
    angle = math.radians(degrees)
    column = (0, math.cos(angle), -math.sin(angle))
    return make.plane(500, number=number, column=column, study_uid="1.1",
                      frame_of_reference_uid="1.4", patient="a")  # fmt: skip


def codes(reasons: tuple[Reason, ...]) -> list[Code]:
    return [reason.code for reason in reasons]


@pytest.mark.parametrize(
    "code",
    [Code.LOCALIZER, Code.SECONDARY_CAPTURE, Code.OTHER_QUANTITY, Code.MODALITY, Code.UNREADABLE,
     Code.MISSING_PIXELS, Code.UNDECODABLE_PIXELS, Code.UNSUPPORTED_PIXELS,
     Code.MISSING_GEOMETRY],
)  # fmt: skip
def test_what_is_foreign_is_set_aside(make: Any, code: Code) -> None:
    series = planes(make)
    found = sort_out(series, [unread(9, code)])
    assert (found.planes, found.refusals, found.every) == (tuple(series), (), 41)
    assert codes(found.aside) == [code]
    assert found.marks == {("1.9.9", "d")}


@pytest.mark.parametrize(
    "code", [Code.MISSING_RESCALE, Code.INVALID_VALUE, Code.PATIENT_AGE, Code.TOO_LARGE]
)
def test_what_makes_the_others_doubtful_refuses(make: Any, code: Code) -> None:
    found = sort_out(planes(make), [unread(9, code), unread(8, Code.LOCALIZER)])
    assert codes(found.refusals) == [code], "a localizer is no reason"
    assert (found.aside, found.marks) == ((), frozenset())


def test_a_turned_image_is_set_aside_with_its_angle(make: Any) -> None:
    series = planes(make)
    for degrees, code in ((90.0, Code.NOT_AXIAL), (3.0, Code.MIXED_ORIENTATION)):
        found = sort_out([*series, upright(make, 77, degrees)], [])
        assert found.planes == tuple(series)
        assert codes(found.aside) == [code]
        assert f"image 77: turned by {degrees:.1f} degrees" in found.aside[0].text
    assert not causes((found.aside[0].model_copy(update={"code": Code.NOT_AXIAL}),))
    assert codes(causes(found.aside)) == [Code.MIXED_ORIENTATION]


@pytest.mark.parametrize(("others", "few"), [(4, True), (5, False)])
def test_at_most_a_tenth_is_foreign(make: Any, others: int, few: bool) -> None:
    series = planes(make, 39)
    found = sort_out(
        [*series, upright(make, 99)], [unread(n, Code.MISSING_PIXELS) for n in range(others - 1)]
    )
    assert (len(found.planes), found.refusals == ()) == (39 if few else 40, few)
    if not few:
        assert codes(found.refusals) == [Code.MISSING_PIXELS]


def test_an_image_that_came_twice_counts_once(make: Any) -> None:
    found = sort_out(planes(make, 9), [unread(9, Code.LOCALIZER)] * 3)
    assert (len(found.aside), found.every) == (1, 10)


def test_images_that_are_all_set_aside_by_name_are_refused_by_that_name() -> None:
    found = sort_out([], [unread(n, Code.LOCALIZER) for n in range(3)])
    assert [(r.code, r.where) for r in found.refusals] == [(Code.LOCALIZER, "series")]
    assert sort_out([], []) == Sorted(())


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"patient": "b"}, "patient"),
        ({"study_uid": "1.9"}, "study"),
        ({"frame_of_reference_uid": "1.9"}, "frame of reference"),
    ],
)
def test_another_patient_study_or_frame_refuses(make: Any, said: dict[str, str], what: str) -> None:
    found = sort_out(planes(make), [unread(9, Code.LOCALIZER, **said)])
    (reason,) = found.refusals
    assert (reason.code, reason.where) == (Code.MIXED_SERIES, "image 9")
    assert reason.text == f"image 9 is of another {what} than the others"


def test_what_an_image_does_not_say_differs_from_nothing(make: Any) -> None:
    silent = unread(9, Code.LOCALIZER, patient=None, frame_of_reference_uid=None)
    assert sort_out(planes(make), [silent]).refusals == ()
    assert mixed([], [CT]) == ()
    other = replace(CT, frame_of_reference_uid="1.9")
    assert mixed([CT], [other], frames=False) == ()
    assert codes(mixed([CT], [other])) == [Code.MIXED_SERIES]


def test_the_limitation_names_causes_first_then_images_and_the_hole() -> None:
    images = [unread(n, Code.MISSING_PIXELS) for n in range(10, 17)]
    reasons = [unread(3, Code.LOCALIZER).reasons[0], *(u.reasons[0] for u in images)]
    hole = Reason(code=Code.GAP_FILLED, text="a hole was filled")
    (told,) = limitation(reasons, 99, hole)
    assert told.code is Code.SET_ASIDE_IMAGES
    assert told.where == "image 10"
    assert told.text == (
        "image 10: why not (and image 11, image 12, image 13, image 14 and 2 more); "
        "image 3: why not; 8 of 99 images are set aside; a hole was filled"
    )
    for order in permutations(reasons[:4]):
        assert limitation(order, 9, None) == limitation(reasons[:4], 9, None)
    assert limitation([], 9, None) == ()
