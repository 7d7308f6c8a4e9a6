"""axe-core finds nothing on any page, in both languages and both themes; targets are large enough.

What it cannot judge by itself, it calls incomplete; that is for a person's eyes, and is kept as a
property of the test (`--junitxml`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from rigs import pages, web
from rigs.chromium import Chromium, Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """
axe.run(document, {runOnly: %s}).then(found => ({
  violations: found.violations.map(one =>
    [one.id, one.help, one.nodes.map(n => n.html).slice(0, 5)]),
  incomplete: found.incomplete.map(one => [one.id, one.nodes.length]),
  passes: found.passes.length}))
"""
TARGETS = """
[...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, summary")]
  .filter(e => e.offsetParent && !e.matches(".skip, p a, li a"))
  .map(e => [e.outerHTML.slice(0, 90), ...(b => [b.width, b.height])(e.getBoundingClientRect())])
  .filter(([, width, height]) => width < 63.5 || height < 63.5)
"""
SIZES = {"bedside": (1024, 600), "desk": (1600, 1000)}
LOOKS = list(itertools.product(("en", "zh"), ("dark", "light")))


def shown(
    browser: Chromium, page: web.Page, one: pages.Shown, language: str, theme: str, size: str
) -> Page:
    """The page in a tab of its own, for a reader of the role that it is for."""
    tab = browser.page()
    tab.ask("Page.enable")
    width, height = SIZES[size]
    tab.ask(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    tab.ask("Network.clearBrowserCookies")
    cookies = {"scanside-look": f"{language}.{theme}"}
    if one.role is not None:
        assert one.role != "display"
        with page.logged_in(one.role) as client:
            cookies |= dict(client.cookies)
    for name, value in cookies.items():
        tab.ask("Network.setCookie", name=name, value=value, url=page.address)
    address = page.address + one.make(page.settings.state)
    tab.go(address)
    tab.until(f"location.href == {address!r} && document.readyState == 'complete' && ({one.ready})")
    return tab


@pytest.mark.long
@pytest.mark.parametrize(("language", "theme"), LOOKS)
@pytest.mark.parametrize("one", pages.PAGES, ids=lambda one: one.route)
def test_a_page_has_no_violation_of_wcag(
    axe: str,
    browser: Chromium,
    page: web.Page,
    one: pages.Shown,
    language: str,
    theme: str,
    record_property: Callable[[str, object], None],
) -> None:
    tab = shown(browser, page, one, language, theme, "bedside")
    try:
        tab.value(axe + "\n;0")
        found: dict[str, Any] = tab.value(RUN % RULES)
        record_property("incomplete", found["incomplete"])
        assert found["violations"] == []
        assert found["passes"] > 10, "it did judge the page"
    finally:
        tab.close()


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("one", pages.PAGES, ids=lambda one: one.route)
def test_what_is_touched_is_64_pixels_wide_and_high_and_nothing_is_beside_the_screen(
    browser: Chromium, page: web.Page, one: pages.Shown, size: str
) -> None:
    for language, _ in LOOKS[::2]:
        tab = shown(browser, page, one, language, "dark", size)
        try:
            assert tab.value(TARGETS) == []
            width = SIZES[size][0]
            assert tab.value("document.documentElement.scrollWidth") <= width, (
                "no scrolling sideways"
            )
        finally:
            tab.close()


@pytest.mark.long
def test_the_bar_at_the_top_is_one_row_at_the_bedside(browser: Chromium, page: web.Page) -> None:
    one = next(one for one in pages.PAGES if one.route == "/")
    for language, theme in LOOKS:
        tab = shown(browser, page, one, language, theme, "bedside")
        try:
            assert tab.value("document.querySelector('.top').getBoundingClientRect().height") <= 64
        finally:
            tab.close()


@pytest.mark.long
def test_axe_finds_what_is_wrong_on_a_page(axe: str, browser: Chromium, page: web.Page) -> None:
    tab = shown(browser, page, pages.PAGES[0], "en", "dark", "desk")
    try:
        tab.value(
            "document.querySelector('label').replaceWith(document.querySelector('label input'))"
        )
        tab.value("document.querySelector('h1').style.color = '#13313e'")
        tab.value(axe + "\n;0")
        found = tab.value(RUN % RULES)["violations"]
        assert {"label", "color-contrast"} <= {one[0] for one in found}
    finally:
        tab.close()
