"""What a page says of codes of closed lists: each of them, in both languages."""

from __future__ import annotations

from typing import get_args

import pytest

from appliance.reasons import REMEDIES, Code
from appliance.report import PLACE_OF, Doubt
from appliance.room.codes import WHAT_TO_DO, FlagCode
from appliance.store import library
from appliance.watching import qa
from appliance.watching.alarm import Cause, Statistic
from appliance.watching.qa import QaCode, Verdict
from appliance.watching.row import State
from appliance.watching.scanner import Scanner
from appliance.web.text import say
from appliance.web.views.watching import REFUSED_WHY

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


CODES = {
    "drift.statistic": [one.value for one in Statistic],
    "drift.cause": [one.value for one in Cause],
    "drift.do": [one.value for one in Cause],
    "drift.state": get_args(State),
    "drift.unknown": sorted(set(Scanner.model_fields) - {"serial"}),
    "drift.tune_not": ["texture_unknown", "texture_not_sharper"],
    "drift.decision": library.ACTS,
    "drift.refused_why": [*sorted(REFUSED_WHY), "other"],
    "room.phantom": [one.value for one in QaCode],
    "room.phantom_remedy": [one.value for one in QaCode],
    "health": [f"phantom_{one}" for one in get_args(Verdict)],
}
"""Texts begin with this -> the codes that follow, of scanners and of water phantoms."""


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_of_scanners_and_phantoms_has_its_words(language: say.Language) -> None:
    texts = say.texts(language)
    for begins, codes in CODES.items():
        assert codes
        for code in codes:
            said = texts[f"{begins}.{code}"]
            assert code not in said.split() or "_" not in code, "in words"
    english = say.texts("en")
    assert {code: english[f"room.phantom_remedy.{code.value}"] for code in QaCode} == qa.WHAT_TO_DO


def test_the_chinese_texts_are_chinese_and_name_the_same_commands() -> None:
    english, chinese = say.texts("en"), say.texts("zh")
    for code in Code:
        key = f"reasons.remedy.{code.value}"
        assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese[key]), key
        assert ("scanside doctor" in english[key]) == ("scanside doctor" in chinese[key]), key
