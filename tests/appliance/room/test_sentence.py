"""The line over the page, in both languages."""

from __future__ import annotations

import pytest

from appliance.reasons import Code
from appliance.room.check import Flag, RoomCheck
from appliance.room.codes import FlagCode
from appliance.room.sentence import banner
from appliance.web.site import Language
from rigs.texts import LANGUAGES, saying

CUT = Flag(code=FlagCode.LUNGS_CUT_HEAD, text="-", figure=64.7, unit="cm2")
STEP = Flag(code=FlagCode.STEPS, text="-", figure=4.25, unit="mm", where="z -34.5 mm")
REFUSED = Flag(code=FlagCode.NOT_ANALYSED, text="-", reason=Code.GANTRY_TILT)
USABLE = RoomCheck(verdict="usable")


def look(*flags: Flag) -> RoomCheck:
    return RoomCheck(verdict="look", flags=flags)


def test_before_there_is_a_check_the_series_arrives_and_nothing_is_judged() -> None:
    english = banner(None, saying("en"), images=17, judged=False)
    assert english == "ARRIVING, 17 images"
    assert banner(None, saying("zh"), images=17, judged=False) == "正在接收，已到 17 幅图像"


def test_what_was_set_aside_has_no_line() -> None:
    assert banner(None, saying("en"), images=2, judged=True) is None


def test_usable_says_that_only_so_much_was_checked() -> None:
    assert banner(USABLE, saying("en"), images=9, judged=True) == "USABLE AS FAR AS CHECKED"


def test_every_flag_is_named_with_its_figure_and_its_place() -> None:
    english = banner(look(CUT, STEP), saying("en"), images=9, judged=True)
    assert english == (
        "LOOK BEFORE THE PATIENT LEAVES: the lungs are cut at the upper end, over 65 cm²; "
        "a step of 4.2 mm between two slices, at z -34.5 mm"
    )
    chinese = banner(look(CUT, STEP), saying("zh"), images=9, judged=True)
    assert chinese is not None
    assert chinese.startswith("患者离开前请查看：")
    assert "65 cm²" in chinese
    assert "z -34.5 mm" in chinese


def test_a_refused_series_is_never_usable_and_names_its_reason() -> None:
    line = banner(look(REFUSED), saying("en"), images=9, judged=True)
    assert line is not None
    assert f"({saying('en')('reasons.what.gantry_tilt')})" in line
    assert "gantry_tilt" not in line, "no code for who stands at the bedside"
    assert "USABLE" not in line


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", FlagCode)
def test_no_flag_leaves_a_place_empty(code: FlagCode, language: Language) -> None:
    flag = Flag(code=code, text="-", figure=12.5, where="z 1 mm", reason=Code.NO_LUNGS)
    line = banner(look(flag), saying(language), images=9, judged=True)
    assert line is not None
    assert "{" not in line
