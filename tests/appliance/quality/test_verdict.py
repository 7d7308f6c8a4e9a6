"""From values to flags: each row, and what is never usable."""

from __future__ import annotations

import pytest

from appliance.quality import verdict
from appliance.reasons import SET_ASIDE, Code
from appliance.records import Facts, Result
from appliance.report import Coverage, Reason, Status
from appliance.room.check import RoomValues
from appliance.room.codes import FlagCode

WELL = RoomValues(
    lungs_head_cm2=0.0, lungs_feet_cm2=0.3, lungs_side_cm2=0.0, body_edge_percent=20.0,
    step_mm=0.4, step_most_mm=1.6, step_z_mm=-30.0, noise_hu=25.0, noise_thick_hu=25.0,
    texture_per_mm=0.4, lung_edge_hu_per_mm=450.0, air_noise_hu=8.0, air_hu=-998.0, tissue_hu=50.0,
    blood_hu=45.0, contrast="no",
)  # fmt: skip


def result(
    values: RoomValues | None = WELL,
    lungs: str = "covered",
    limitations: tuple[Reason, ...] = (),
    reasons: tuple[Reason, ...] = (),
    status: Status = Status.ANALYSED,
) -> Result:
    coverage = Coverage.model_validate({"lungs": lungs})
    facts = Facts("1.2", "1.2.3", "CT", 9, None, None, None, coverage)
    return Result(status, facts, "", reasons=reasons, limitations=limitations, room=values)


def said(code: Code) -> Reason:
    return Reason(code=code, text="because of image 3", where="image 3")


def flagged(one: Result) -> list[FlagCode]:
    check = verdict.check(one)
    assert check is not None
    assert (check.verdict == "look") == bool(check.flags)
    return [flag.code for flag in check.flags]


def test_a_good_series_is_usable_with_all_its_values() -> None:
    check = verdict.check(result())
    assert check is not None
    assert (check.verdict, check.flags, check.values) == ("usable", (), WELL)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"lungs_side_cm2": 5.1}, FlagCode.LUNGS_CUT_SIDE),
        ({"body_edge_percent": 51.0}, FlagCode.BODY_CUT),
        ({"step_mm": 1.7}, FlagCode.STEPS),
        ({"noise_thick_hu": 43.0}, FlagCode.NOISE),
        ({"lung_edge_hu_per_mm": 650.0, "noise_thick_hu": 116.0}, FlagCode.NOISE),
        ({"air_hu": -940.0}, FlagCode.AIR_HU),
        ({"air_hu": -1060.0}, FlagCode.AIR_HU),
        ({"air_hu": None, "tissue_hu": 110.0}, FlagCode.TISSUE_HU),
        ({"air_hu": None, "tissue_hu": -10.0}, FlagCode.TISSUE_HU),
    ],
)
def test_each_value_beyond_its_limit_is_the_flag_of_its_row(
    changes: dict[str, float | None], code: FlagCode
) -> None:
    assert flagged(result(WELL.model_copy(update=changes))) == [code]


@pytest.mark.parametrize(
    "changes",
    [
        {"lung_edge_hu_per_mm": 650.0, "noise_thick_hu": 100.0},  # a sharp kernel
        {"tissue_hu": 115.0},  # a liver with contrast medium, beside air that is right
        {"body_edge_percent": 45.0},  # a field of view for the lungs
        dict.fromkeys(RoomValues.model_fields.keys() - {"contrast"}),
    ],
)
def test_no_flag_is_made_up(changes: dict[str, float | None]) -> None:
    assert flagged(result(WELL.model_copy(update=changes))) == []


@pytest.mark.parametrize(
    ("lungs", "codes"),
    [
        ("cut_head", [FlagCode.LUNGS_CUT_HEAD]),
        ("cut_feet", [FlagCode.LUNGS_CUT_FEET]),
        ("cut_both", [FlagCode.LUNGS_CUT_HEAD, FlagCode.LUNGS_CUT_FEET]),
        ("unknown", []),
    ],
)
def test_lungs_are_cut_where_the_report_says_so(lungs: str, codes: list[FlagCode]) -> None:
    assert flagged(result(lungs=lungs)) == codes


@pytest.mark.parametrize("code", sorted(verdict.MISSING))
def test_images_that_are_missing_are_flagged_with_the_reason(code: Code) -> None:
    check = verdict.check(result(limitations=(said(code),)))
    assert check is not None
    assert [(f.code, f.reason, f.where) for f in check.flags] == [
        (FlagCode.IMAGES_MISSING, code, "image 3")
    ]


def test_other_limitations_are_no_flags() -> None:
    other = set(Code) - verdict.MISSING - {Code.SUSPECT_HU, Code.DIFFUSE_DISEASE}
    assert flagged(result(limitations=tuple(map(said, sorted(other))))) == []


def test_hu_that_the_report_suspects_are_flagged_once() -> None:
    suspect = (said(Code.SUSPECT_HU),)
    assert flagged(result(limitations=suspect)) == [FlagCode.SUSPECT_HU]
    off = WELL.model_copy(update={"air_hu": -900.0})
    assert flagged(result(off, limitations=suspect)) == [FlagCode.AIR_HU]


@pytest.mark.parametrize("code", sorted(set(Code) - SET_ASIDE))
def test_a_refused_series_is_never_usable_and_names_its_reason(code: Code) -> None:
    check = verdict.check(result(None, reasons=(said(code),), status=Status.NOT_ANALYSED))
    assert check is not None
    (flag,) = check.flags
    assert (check.verdict, flag.code) == ("look", FlagCode.NOT_ANALYSED)
    assert (flag.reason, flag.text) == (code, "because of image 3")


def test_a_series_that_broke_the_analysis_is_never_usable() -> None:
    broken = result(None, reasons=(said(Code.POISONED),), status=Status.FAILED)
    assert flagged(broken) == [FlagCode.FAILED]


@pytest.mark.parametrize("code", sorted(SET_ASIDE))
def test_what_is_rightly_set_aside_has_no_check(code: Code) -> None:
    aside = result(None, reasons=(said(code),), status=Status.NOT_ANALYSED)
    assert verdict.check(aside) is None


def test_what_nothing_was_measured_of_is_not_called_usable() -> None:
    assert verdict.check(result(None)) is None
    holes = result(None, limitations=(said(Code.GAP_FILLED),))
    assert flagged(holes) == [FlagCode.IMAGES_MISSING]
