"""The closed list of flags: consumers and translations compare codes, so they never change."""

from __future__ import annotations

import json
import string

import pytest

from appliance.reasons import Code
from appliance.room.codes import WHAT_TO_DO, FlagCode
from rigs.texts import ENGLISH, LANGUAGES

FROZEN = {
    "not_analysed", "failed", "images_missing", "lungs_cut_head", "lungs_cut_feet",
    "lungs_cut_side", "body_cut", "steps", "noise", "air_hu", "tissue_hu", "suspect_hu",
}  # fmt: skip


def test_no_published_code_is_gone_and_each_new_one_is_written_down() -> None:
    assert {code.value for code in FlagCode} == FROZEN
    assert all(code.name.lower() == code.value for code in FlagCode)


@pytest.mark.parametrize("code", FlagCode)
def test_every_flag_says_what_to_do_and_none_asks_for_another_scan(code: FlagCode) -> None:
    remedy = WHAT_TO_DO[code]
    assert len(remedy) > 20
    assert "scan again" not in remedy.lower()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_flag_has_a_text_in_each_language_with_the_same_places(language: str) -> None:
    texts = json.loads(LANGUAGES[language].read_text("utf-8"))
    english = json.loads(ENGLISH.read_text("utf-8"))
    assert texts.keys() == english.keys()
    assert {f"flag.{code.value}" for code in FlagCode} <= texts.keys()
    for key, text in texts.items():
        assert places(text) == places(english[key]), key


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_a_reason_of_a_report_is_no_flag_of_another_meaning() -> None:
    both = {code.value for code in Code} & {code.value for code in FlagCode}
    assert both == {"suspect_hu"}, "one word, one meaning: HU that are suspect are so in both"
