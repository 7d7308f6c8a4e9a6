"""The tones of the in-room check, in real Chromium: what its oscillators are told to sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.report import SeriesKey
from appliance.room.check import Flag
from appliance.room.codes import FlagCode
from rigs import chromium as browsers
from rigs import ward, web
from rigs.chromium import Chromium
from rigs.ward import Ward

HEAR = """
window.heard = [];
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (...at) {
  window.heard.push(this.frequency.value);
  return start.apply(this, at);
};
"""
BUTTON = "document.getElementById('sound')"
USABLE, LOOK = [880], [440, 440]
CUT = Flag(code=FlagCode.LUNGS_CUT_HEAD, text="cut over 21 cm2", figure=21.0, unit="cm2")


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[Ward]:
    with Ward(tmp_path / "state") as made:
        yield made


@pytest.fixture
def page(at_work: Ward) -> Iterator[web.Page]:
    with web.running(at_work.state) as serving:
        yield serving


@pytest.fixture
def tab(browser: Chromium, page: web.Page) -> Iterator[browsers.Page]:
    """The work list, as a stranger to this browser sees it."""
    made = browser.page()
    made.ask("Page.enable")
    made.ask("Page.addScriptToEvaluateOnNewDocument", source=HEAR)
    made.ask("Emulation.setDeviceMetricsOverride",
             width=1024, height=600, deviceScaleFactor=1, mobile=False)  # fmt: skip
    made.go(page.link())
    made.until("document.readyState === 'complete' && location.pathname === '/start'")
    made.click("document.querySelector('main .button')")
    made.until("document.readyState === 'complete' && location.pathname === '/'")
    yield made
    made.close()


def judged(at_work: Ward, key: SeriesKey, *flags: Flag) -> None:
    """A final report of the series, with its in-room check."""
    name = ward.NAMING.report(key, ward.BUNDLE.digest, "b" * 64)
    check = ward.RoomCheck(
        verdict="look" if flags else "usable",
        flags=flags,
        values=ward.RoomValues(contrast="no"),
    )
    ward.kept.keep_record(at_work.state, name, ward.kept.ROOM, check)
    at_work.report(key)


def opened(tab: browsers.Page, page: web.Page, path: str) -> None:
    tab.go(page.address + path)
    tab.until(f"document.readyState === 'complete' && location.pathname === {path!r}")


def is_heard(tab: browsers.Page, tones: list[int]) -> bool:
    return bool(tab.until(f"JSON.stringify(window.heard) === '{tones}'.replaceAll(' ', '')"))


def test_it_is_off_until_it_is_tapped_and_the_tap_sounds(
    tab: browsers.Page, page: web.Page, at_work: Ward
) -> None:
    key = at_work.arrive(minutes_ago=0)
    study = f"/study/{ward.NAMING.study(key.study)}"
    opened(tab, page, study)
    assert tab.value(f"{BUTTON}.innerText") == "Sound: off"
    judged(at_work, key)
    tab.until("document.querySelector('[data-verdict=usable]') !== null")
    assert tab.value("window.heard") == []
    tab.click(BUTTON)
    assert is_heard(tab, USABLE)
    tab.until(f"{BUTTON}.innerText === 'Sound: on'")
    assert tab.value(f"{BUTTON}.getBoundingClientRect().height") >= 64
    tab.click(BUTTON)
    tab.until(f"{BUTTON}.innerText === 'Sound: off'")
    assert is_heard(tab, USABLE), "who turns it off hears nothing"


def test_a_new_verdict_sounds_once_on_the_page_of_its_study_and_on_the_list(
    tab: browsers.Page, page: web.Page, at_work: Ward
) -> None:
    tab.click(BUTTON)
    assert is_heard(tab, USABLE)
    first, second = at_work.arrive(minutes_ago=0), at_work.arrive(minutes_ago=0)
    tab.until("document.querySelectorAll('tbody tr').length === 2")
    judged(at_work, first, CUT)
    assert is_heard(tab, USABLE + LOOK)
    opened(tab, page, f"/study/{ward.NAMING.study(second.study)}")
    tab.until(f"{BUTTON}.innerText !== 'Sound: off'")  # it stays on from page to page
    tab.value("window.heard.length = 0")
    if tab.value(f"{BUTTON}.innerText") == "Tap for sound":
        tab.click("document.querySelector('h1')")
    tab.until(f"{BUTTON}.innerText === 'Sound: on'")
    judged(at_work, second)
    tab.until("document.querySelector('[data-verdict=usable]') !== null")
    assert is_heard(tab, USABLE)
    at_work.arrive(minutes_ago=0)  # something else is new
    assert is_heard(tab, USABLE)


def test_what_a_page_shows_when_it_is_opened_is_not_new_but_after_it_loads_itself_it_may_be(
    tab: browsers.Page, page: web.Page, at_work: Ward
) -> None:
    key = at_work.arrive(minutes_ago=0)
    judged(at_work, key, CUT)
    study = f"/study/{ward.NAMING.study(key.study)}"
    tab.click(BUTTON)
    opened(tab, page, study)
    tab.click("document.querySelector('h1')")
    tab.until(f"{BUTTON}.innerText === 'Sound: on'")
    assert tab.value("window.heard") == []
    tab.value(
        "(k => sessionStorage.setItem(k, JSON.stringify([])))"
        "(Object.keys(sessionStorage).find(k => k.includes('/study/')))"
    )
    tab.value("document.dispatchEvent(new CustomEvent('scanside:fresh'))")
    assert is_heard(tab, LOOK)


def test_another_login_in_the_same_browser_begins_without_sound(
    tab: browsers.Page, page: web.Page
) -> None:
    tab.click(BUTTON)
    tab.until(f"{BUTTON}.innerText === 'Sound: on'")
    tab.go(page.link())
    tab.until("document.readyState === 'complete' && location.pathname === '/start'")
    tab.click("document.querySelector('main .button')")
    tab.until("document.readyState === 'complete' && location.pathname === '/'")
    assert tab.value(f"{BUTTON}.innerText") == "Sound: off"
