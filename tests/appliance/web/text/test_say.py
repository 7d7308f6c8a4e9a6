"""What a page says: every key in both languages, and which language is taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.web import text
from appliance.web.site import Language
from appliance.web.text import say

ENGLISH, CHINESE = say.texts("en"), say.texts("zh")
PAGES = Path(text.__file__).parents[1] / "pages"


def places(said: str) -> set[str]:
    return set(re.findall(r"{(\w*)}", said))


def test_both_languages_have_the_same_keys() -> None:
    assert ENGLISH.keys() == CHINESE.keys()
    assert len(ENGLISH) > 40


@pytest.mark.parametrize("key", sorted(ENGLISH))
def test_a_text_has_the_same_places_in_both_languages_and_no_markup(key: str) -> None:
    assert places(ENGLISH[key]) == places(CHINESE[key])
    for said in (ENGLISH[key], CHINESE[key]):
        assert said.strip()
        assert not re.search(r"[<>]|&\w+;", said)


def test_every_key_that_a_template_names_is_there() -> None:
    named = {
        key
        for path in PAGES.glob("*.html")
        for key in re.findall(r"""\bsay\(\s*["']([\w.]+)["']\s*[,)]""", path.read_text())
    }
    assert len(named) > 15
    assert named <= ENGLISH.keys()


def test_values_are_put_in_as_they_are() -> None:
    speak = say.speaker({"a.b": "{count} of {all}", "a.c": "100 %"})
    assert speak("a.b", count=2, all="<3>") == "2 of <3>"
    assert speak("a.c") == "100 %"


@pytest.mark.parametrize(("key", "values"), [("a.x", {}), ("a.b", {"n": 1})])
def test_a_key_or_a_value_that_is_missing_is_an_error(key: str, values: dict[str, int]) -> None:
    with pytest.raises(KeyError):
        say.speaker({"a.b": "{count}"})(key, **values)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", "en"),
        ("de-DE, fr", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en;q=0.3, zh-Hans;q=0.7", "zh"),
        ("zh;q=0, en;q=0.1", "en"),
        ("zh;q=x, en;q=0.1", "en"),
        (",;q=,\x00" * 500, "en"),
    ],
)
def test_the_language_is_that_of_the_browser_as_far_as_it_is_offered(
    asked: str, found: Language
) -> None:
    assert say.wanted(asked, ("en", "zh")) == found
    assert say.wanted(asked, ("zh",)) == "zh"
