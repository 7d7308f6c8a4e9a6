"""What a page says of reasons: each code, in both languages."""

from __future__ import annotations

from typing import get_args

import pytest

from appliance.reasons import REMEDIES, Code
from appliance.report import PLACE_OF, Doubt
from appliance.room.codes import WHAT_TO_DO, FlagCode
from appliance.web.text import say

LANGUAGES = say.LANGUAGES


def test_the_english_remedies_are_those_of_the_reports() -> None:
    texts = say.texts("en")
    assert {code: texts[f"reasons.remedy.{code.value}"] for code in Code} == REMEDIES
    flags = {code: texts[f"room.remedy.{code.value}"] for code in FlagCode}
    assert flags == WHAT_TO_DO


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_kind_and_doubt_has_its_words(language: say.Language) -> None:
    texts = say.texts(language)
    for code in Code:
        assert texts[f"reasons.what.{code.value}"]
        assert texts[f"reasons.remedy.{code.value}"]
    for flag in FlagCode:
        assert texts[f"room.flag.{flag.value}"]
        assert texts[f"room.remedy.{flag.value}"]
    for kind in PLACE_OF:
        assert texts[f"study.kind.{kind}"]
    for doubt in get_args(Doubt):
        assert texts[f"study.doubt.{doubt}"]


def test_the_chinese_texts_are_chinese_and_name_the_same_commands() -> None:
    english, chinese = say.texts("en"), say.texts("zh")
    for code in Code:
        key = f"reasons.remedy.{code.value}"
        assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese[key]), key
        assert ("scanside doctor" in english[key]) == ("scanside doctor" in chinese[key]), key
