"""page.css and show.css on the screen of the bedside, in real Chromium: what is seen at first
sight, and that nothing which has the focus hides under the notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs import chromium as browsers
from rigs import web
from rigs.chromium import Chromium
from rigs.ward import Exam

WIDTH, HEIGHT = 1024, 600
LEAST_AT_FIRST = 320
"""Pixels of the image that are seen before anybody scrolls."""
TOP = "document.querySelector('{}').getBoundingClientRect().top"
HIDDEN = """
(() => {
  const notice = document.querySelector(".notice");
  const hidden = [];
  for (const one of document.querySelectorAll("a[href], button, input, select, summary")) {
    if (one.matches(".skip")) continue;
    scrollTo({ top: 0, behavior: "instant" });
    one.focus();
    if (document.activeElement !== one) continue; // in a part that is closed
    const { bottom } = one.getBoundingClientRect();
    if (bottom > notice.getBoundingClientRect().top) hidden.push(one.outerHTML.slice(0, 90));
  }
  return hidden;
})()
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the ward, and not of images, as for the other tests of this folder."""
    return tmp_path_factory.mktemp("ward") / "state"


@pytest.fixture(scope="module")
def let_in(browser: Chromium, bedside: web.Page) -> web.Page:
    """The stage of the ward, into which the browser's profile is let."""
    tab = browser.page()
    tab.go(bedside.link())
    tab.until("document.readyState === 'complete' && location.pathname === '/start'")
    tab.click("document.querySelector('main .button')")
    tab.until("location.pathname === '/'")
    tab.close()
    return bedside


@pytest.fixture
def study(browser: Chromium, let_in: web.Page, day: dict[str, Exam]) -> Iterator[browsers.Page]:
    """The page of the study with findings."""
    tab = opened(browser, f"{let_in.address}/study/{day['found'].study}")
    yield tab
    tab.close()


def opened(browser: Chromium, address: str, accepts: str = "en") -> browsers.Page:
    """A page at 7 inches, in a browser that asks for these languages."""
    tab = browser.page()
    tab.ask("Network.enable")
    tab.ask("Network.setExtraHTTPHeaders", headers={"Accept-Language": accepts})
    tab.ask(
        "Emulation.setDeviceMetricsOverride",
        width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    tab.go(address)
    tab.until(f"document.readyState === 'complete' && location.href === {address!r}")
    return tab


def test_the_image_of_a_study_is_seen_at_first_sight(study: browsers.Page) -> None:
    assert study.value("document.querySelector('.top').offsetHeight") == 64
    seen = study.value(f"{TOP.format('.notice')} - {TOP.format('.viewer-stage')}")
    assert seen >= LEAST_AT_FIRST


def test_the_in_room_check_is_the_only_banner_and_the_status_is_a_badge(
    study: browsers.Page,
) -> None:
    shown = "[...document.querySelectorAll('{}')].filter(e => e.offsetParent).map(e => e.innerText)"
    banners = study.value(shown.format(".banner"))
    assert len(banners) == 1
    assert "USABLE AS FAR AS CHECKED" in banners[0]
    badges = study.value(shown.format(".title .badge.ok"))
    assert badges == ["ANALYSED, findings: 3"]
    assert study.value("document.querySelectorAll('.title .badge svg.sign').length") == 1


def test_what_has_the_focus_stands_above_the_notice(study: browsers.Page) -> None:
    assert study.value("document.documentElement.scrollHeight") > 2 * HEIGHT
    assert study.value(HIDDEN) == []
    study.value("document.documentElement.style.scrollPadding = 0")
    assert study.value(HIDDEN) != [], "without the padding some would be hidden"


@pytest.mark.parametrize(
    ("accepts", "language"),
    [("en-US,en;q=0.9", "en"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"), ("fr-FR,fr;q=0.9", "en")],
)
def test_the_first_visit_is_in_the_language_of_the_browser_or_in_the_first_that_is_offered(
    browser: Chromium, page: web.Page, accepts: str, language: str
) -> None:
    tab = opened(browser, f"{page.address}/login", accepts)
    try:
        assert tab.value("document.documentElement.lang") == language
    finally:
        tab.close()
