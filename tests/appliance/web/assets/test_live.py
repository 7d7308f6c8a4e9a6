"""The banner of a page that is old, in real Chromium: the stage ends while its page is open.

The page waits for 40 s before it says so. The tests do not: they put the clock of the page forward.
"""

from __future__ import annotations

from pathlib import Path

from rigs import chromium as browsers
from rigs import ward, web
from rigs.chromium import Chromium
from rigs.ward import Ward

CLOCK = "window.later = 0; const real = Date.now; Date.now = () => real() + window.later;"
OLD = "!document.getElementById('stale').hidden"
LATER_AND_OLD = f"(window.later += 60000, {OLD})"
"""Put forward at each look: the stream may have been heard just now, and then it is early again."""


def opened(browser: Chromium, page: web.Page) -> browsers.Page:
    """The work list, with a clock that can be put forward by `window.later`, in milliseconds."""
    tab = browser.page()
    tab.ask("Page.enable")
    tab.ask("Page.addScriptToEvaluateOnNewDocument", source=CLOCK)
    tab.go(page.link())
    tab.until("document.readyState === 'complete' && location.pathname === '/start'")
    tab.click("document.querySelector('main .button')")
    tab.until("document.readyState === 'complete' && location.pathname === '/'")
    return tab


def test_a_page_that_hears_nothing_says_that_it_is_old_until_it_hears_again(
    browser: Chromium, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with Ward(state) as at_work:
        ward.a_day(at_work)
    with web.running(state) as serving:
        tab = opened(browser, serving)
        try:
            assert not tab.value(OLD)
            tab.until(LATER_AND_OLD)
            with Ward(state) as at_work:
                at_work.arrive(minutes_ago=0)
            tab.until(f"!({OLD})")  # it is told of the new study
            serving.process.terminate()
            serving.process.wait(browsers.HANG_S)
            tab.until(LATER_AND_OLD)
            said = tab.value("document.getElementById('stale').innerText")
            assert "THIS PAGE IS OLD" in said
            assert tab.value("document.getElementById('stale').getAttribute('role')") == "alert"
        finally:
            tab.close()
