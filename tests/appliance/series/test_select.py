"""Set aside by name."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from appliance.reasons import Code
from appliance.records import Header
from appliance.report import Reason
from appliance.series.select import (
    by_name,
    first_causes,
    hints,
    scout,
    summed_up,
)

CT = Header("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.4", "1.2.5", "1.2.6", "CT")


@pytest.mark.parametrize(
    ("image_type", "code"),
    [
        ("", None),
        ("ORIGINAL\\PRIMARY\\AXIAL", None),
        ("ORIGINAL\\PRIMARY\\AXIAL\\CT_SOM5 SPI", None),
        ("ORIGINAL\\PRIMARY\\AXIAL\\HELIX", None),
        ("ORIGINAL\\PRIMARY\\VOLUME\\NONE", None),
        ("ORIGINAL\\PRIMARY", None),
        ("ORIGINAL\\PRIMARY\\LOCALIZER", Code.LOCALIZER),
        ("ORIGINAL\\PRIMARY\\LOCALIZER\\CT_SOM5 TOP", Code.LOCALIZER),
        ("ORIGINAL\\PRIMARY\\SCOUT", Code.LOCALIZER),
        ("DERIVED\\PRIMARY\\LOCALIZER", Code.LOCALIZER),
        ("DERIVED\\PRIMARY\\AXIAL", None),
        ("DERIVED\\PRIMARY\\AXIAL\\CT_SOM7 SPI DUAL", None),
        ("DERIVED\\PRIMARY\\AXIAL\\MONO_70KEV", Code.OTHER_QUANTITY),
        ("DERIVED\\PRIMARY\\AXIAL\\MONOENERGETIC", Code.OTHER_QUANTITY),
        ("DERIVED\\PRIMARY\\AXIAL\\DET_VNC", Code.OTHER_QUANTITY),
        ("DERIVED\\PRIMARY\\AXIAL\\IODINE(WATER)", Code.OTHER_QUANTITY),
        ("DERIVED\\PRIMARY\\AXIAL\\IODINEMAP", Code.OTHER_QUANTITY),
        ("ORIGINAL\\PRIMARY\\AXIAL\\PERFUSION", Code.OTHER_QUANTITY),
        ("DERIVED\\PRIMARY\\VOLUME\\SUBTRACTION", Code.OTHER_QUANTITY),
        ("DERIVED\\PRIMARY\\AXIAL\\EFF_ATOMIC_NUM", Code.OTHER_QUANTITY),
        ("DERIVED\\PRIMARY\\AXIAL\\VMI", Code.OTHER_QUANTITY),
        ("ORIGINAL\\PRIMARY\\AXIAL\\LOW DOSE", None),
        ("DERIVED\\SECONDARY\\REFORMATTED", Code.REFORMATTED),
        ("DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE", Code.PROJECTION),
        ("DERIVED\\SECONDARY\\AXIAL\\CT_SOM5 MPR", Code.REFORMATTED),
        ("ORIGINAL\\PRIMARY\\AXIAL\\MPR", Code.REFORMATTED),
        ("DERIVED\\SECONDARY\\MIP", Code.PROJECTION),
        ("DERIVED\\SECONDARY\\AXIAL\\CT_SOM5 MIP", Code.PROJECTION),
        ("DERIVED\\SECONDARY\\MINIP", Code.PROJECTION),
        ("DERIVED\\SECONDARY\\PROJECTION IMAGE", Code.PROJECTION),
        ("DERIVED\\PRIMARY\\VOLUME\\MAXIMUM", Code.PROJECTION),
        ("DERIVED\\SECONDARY", None),
        ("DERIVED\\SECONDARY\\SCREEN SAVE", Code.SECONDARY_CAPTURE),
        ("ORIGINAL\\SECONDARY\\AXIAL", None),
    ],
)
def test_image_type_sets_aside_by_name(image_type: str, code: Code | None) -> None:
    header = replace(CT, image_type=tuple(image_type.split("\\")) if image_type else ())
    reason = by_name(header)
    assert (reason and reason.code) is code


@pytest.mark.parametrize("tail", ["", ".1", ".3"])
def test_a_secondary_capture_is_known_by_its_class(tail: str) -> None:
    header = replace(CT, sop_class_uid="1.2.840.10008.5.1.4.1.1.7" + tail)
    reason = by_name(header)
    assert reason is not None
    assert reason.code is Code.SECONDARY_CAPTURE
    assert "SOP class" in reason.text


def test_a_class_that_only_begins_alike_is_none() -> None:
    assert by_name(replace(CT, sop_class_uid="1.2.840.10008.5.1.4.1.1.77.1")) is None


def test_the_reason_says_which_word_decided_and_nothing_else_of_the_header() -> None:
    reason = by_name(replace(CT, image_type=("DERIVED", "SECONDARY", "MIP", "DOE^JANE")))
    assert reason is not None
    assert reason.text == "it is a projection: Image Type MIP"


SECONDARY = replace(CT, image_type=("ORIGINAL", "SECONDARY", "AXIAL"))
DERIVED = replace(CT, image_type=("DERIVED", "PRIMARY", "AXIAL"))


def test_secondary_and_derived_are_hints_in_ct_and_set_aside_elsewhere() -> None:
    (reason,) = hints([SECONDARY, SECONDARY, CT])
    assert reason.code is Code.SECONDARY
    assert "2 of 3 images" in reason.text
    assert [r.code for r in hints([DERIVED])] == [Code.DERIVED]
    both = replace(CT, image_type=("DERIVED", "SECONDARY", "AXIAL"))
    assert [r.code for r in hints([both])] == [Code.SECONDARY, Code.DERIVED]
    assert hints([CT]) == ()
    for header, code in ((SECONDARY, Code.SECONDARY_CAPTURE), (DERIVED, Code.DERIVED)):
        reason_elsewhere = by_name(replace(header, sop_class_uid="1.2.840.10008.5.1.4.1.1.4"))
        assert reason_elsewhere is not None
        assert reason_elsewhere.code is code


@pytest.mark.parametrize(
    "lost", [{"lossy": True}, {"transfer_syntax_uid": "1.2.840.10008.1.2.4.81"}]
)
def test_what_compression_named_derived_is_lossy_and_no_more(lost: dict[str, Any]) -> None:
    assert hints([replace(DERIVED, **lost)]) == ()
    assert [r.code for r in hints([replace(SECONDARY, **lost)])] == [Code.SECONDARY]


def test_text_burned_into_a_secondary_image_sets_it_aside() -> None:
    for header in (SECONDARY, DERIVED):
        reason = by_name(replace(header, burned_in=True))
        assert reason is not None
        assert reason.code is Code.SECONDARY_CAPTURE
        assert "Burned In Annotation" in reason.text
    assert by_name(replace(CT, burned_in=True)) is None


def test_an_unlabelled_image_as_thick_as_a_body_is_a_localizer() -> None:
    reason = by_name(replace(CT, thickness_mm=700.0))
    assert reason is not None
    assert reason.code is Code.LOCALIZER
    assert "700 mm" in reason.text
    assert by_name(replace(CT, thickness_mm=10.0)) is None
    labelled = replace(CT, image_type=("ORIGINAL", "PRIMARY", "AXIAL"), thickness_mm=700.0)
    assert by_name(labelled) is None, "what it says of its kind is believed, its thickness refuses"


def test_a_few_unlabelled_images_across_the_axial_plane_are_a_localizer() -> None:
    upright = [Reason(code=Code.NOT_AXIAL, text="90 degrees"),
               Reason(code=Code.TOO_FEW_SLICES, text="2 images")]  # fmt: skip
    two = [replace(CT, sop_instance_uid=f"1.2.3.{i}") for i in range(2)]
    found = scout(two, upright)
    assert found is not None
    assert found.code is Code.LOCALIZER
    assert scout(two, upright[1:]) is None
    assert scout([*two, replace(DERIVED, sop_instance_uid="1.9")], upright) is None
    many = [replace(CT, sop_instance_uid=f"1.2.3.{i}") for i in range(40)]
    assert scout(many, upright) is None


def test_consequences_of_a_refusal_are_left_out() -> None:
    def named(*codes: Code) -> list[Reason]:
        return [Reason(code=code, text="x") for code in codes]

    gaps = named(Code.GAP_TOO_WIDE, Code.TOO_FEW_SLICES, Code.SPACING_TOO_WIDE)
    assert list(first_causes(gaps)) == gaps
    tilt = named(Code.GANTRY_TILT)
    assert list(first_causes([*tilt, *gaps])) == [*tilt, *gaps]
    for cause in (Code.UNDECODABLE_PIXELS, Code.NOT_AXIAL, Code.MISSING_RESCALE, Code.NO_BUNDLE):
        assert [r.code for r in first_causes([*named(cause), *tilt, *gaps])] == [
            cause,
            Code.GANTRY_TILT,
        ]
    assert first_causes([]) == ()


def test_refusals_of_images_are_summed_up_in_any_order() -> None:
    refusals = [
        Reason(code=Code.MISSING_RESCALE, text=f"image {i}: no slope", where=f"image {i}")
        for i in (10, 2, 31)
    ]
    refusals.append(Reason(code=Code.MISSING_UID, text="image: no UID", where="image"))
    for order in permutations(refusals):
        first, second = summed_up(order)
        assert first.code is Code.MISSING_UID
        assert first.text == "image: no UID"
        assert second.where == "image 2"
        assert second.text == "image 2: no slope (and 2 more like it)"
    assert summed_up([]) == ()
