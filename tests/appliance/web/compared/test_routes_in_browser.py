"""A pair is looked at and judged in a real browser, by keys alone, at 7 inches."""

from __future__ import annotations

from pathlib import Path

from appliance.report import Report
from rigs import beside
from rigs.chromium import Chromium, Page
from rigs.composing import Site
from rigs.web import Page as Stage

DETAILS = "document.querySelector('.compared details')"


def press(tab: Page, element: str) -> None:
    """Enter, with the focus on an element that the Tab key can reach."""
    assert tab.value(f"{element}.tabIndex") == 0
    tab.value(f"{element}.focus()")
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if kind == "keyDown" else {}
        tab.ask(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter",
            windowsVirtualKeyCode=13, **text,
        )  # fmt: skip


def test_both_places_are_shown_and_the_pair_is_judged_by_keys(
    page: Stage, site: Site, waiting: Report, tmp_path: Path
) -> None:
    said = beside.commit(site.settings.state, site.journal, beside.comparison(waiting))
    with Chromium(tmp_path) as browser:
        tab = browser.page()
        tab.ask(
            "Emulation.setDeviceMetricsOverride",
            width=1024, height=600, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        tab.go(page.link())
        tab.until("document.readyState === 'complete' && location.pathname === '/start'")
        tab.click("document.querySelector('main .button')")
        tab.until("location.pathname === '/'")
        tab.go(f"{page.address}/study/{said.study}")
        tab.until(f"document.readyState === 'complete' && {DETAILS} !== null")
        press(tab, f"{DETAILS}.querySelector('summary')")
        tab.until(f"[...{DETAILS}.querySelectorAll('img')].every(one => one.naturalWidth === 148)")
        assert tab.value("document.documentElement.scrollWidth") <= 1024
        press(tab, f"{DETAILS}.querySelector('button[value=wrong]')")
        tab.until("location.hash.startsWith('#pairs-') && document.readyState === 'complete'")
        pressed = "button[value=wrong][aria-pressed=true]"
        assert tab.value(f"{DETAILS}.querySelector('{pressed}') !== null")
    ((pair, act),) = site.journal.pairs.counting(said.report_id).items()
    assert (pair.finding, pair.prior_finding, act.verdict) == (1, 2, "wrong")
