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
    return set(re.findall(r"{(\w*)(?::[^}]*)?}", said))


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


COUNTED = {
    "compared.days": ("days",),
    "compared.doubling": ("value", "low", "high"),
    "compared.doubling_not_under": ("days",),
    "drift.counted": ("n", "at"),
    "drift.damaged": ("count",),
    "drift.implants_before": ("series",),
    "feedback.comments": ("count",),
    "feedback.counted": ("scans", "begun", "marks", "missed", "unscored"),
    "feedback.image": ("number", "count"),
    "feedback.no_proposal": ("scans", "marks"),
    "feedback.off_curve": ("accepted", "rejected", "scans"),
    "feedback.progress": ("judged", "of"),
    "health.dead": ("dead", "waiting"),
    "health.ended": ("days",),
    "health.ends": ("days",),
    "health.sent": ("pause", "studies"),
    "health.spread": ("p50", "p95", "number"),
    "health.times_note": ("here", "gone"),
    "health.waiting": ("waiting", "age"),
    "room.arriving": ("images",),
    "status.arriving": ("images",),
    "status.found": ("findings",),
    "status.found_in_several": ("findings", "series"),
    "status.found_in_several_limited": ("findings", "series"),
    "status.found_limited": ("findings",),
    "status.in_part": ("findings", "series"),
    "status.preliminary": ("findings",),
    "study.hidden": ("count",),
    "study.image": ("number", "count"),
    "study.images": ("images",),
    "study.of_series": ("modality", "slices"),
    "viewer.loading": ("here", "count"),
    "viewer.missing": ("count",),
    "viewer.position": ("plane", "at", "count"),
    "worklist.more_to_do": ("count",),
}
"""What is said of a number of things, and its places."""
SINGULARS = r"\b1 (images|findings|studies|scans|marks|results|days|wait|were|ones|false)\b"


@pytest.mark.parametrize("key", COUNTED)
def test_of_one_thing_a_text_speaks_as_of_one(key: str) -> None:
    assert places(ENGLISH[key]) == set(COUNTED[key])
    one, two = (say.speaker(ENGLISH)(key, **dict.fromkeys(COUNTED[key], n)) for n in (1, 2))
    assert not re.search(SINGULARS, one), one
    assert not re.search(r"\b2 (image|finding|study|scan|mark|result|day|waits|was)\b", two), two


def test_every_text_with_a_plural_is_looked_at() -> None:
    plural = r"{\w+} (images|findings|studies|scans|marks|results|days|wait|were|ones|false)\b"
    assert not [key for key, said in ENGLISH.items() if re.search(plural, said)]
    assert {key for key, said in ENGLISH.items() if "|" in said} <= COUNTED.keys()


def test_a_count_takes_the_word_that_fits_it() -> None:
    speak = say.speaker({"a.b": "{count} {count:image|images}, {all:has|have}"})
    assert speak("a.b", count=1, all="1") == "1 image, has"
    assert speak("a.b", count=0, all=1.5) == "0 images, have"


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
