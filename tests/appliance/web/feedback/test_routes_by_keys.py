"""From the login to a verdict by keys alone, in a real browser: one series with two findings."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.report import Report
from rigs import chromium as browsers
from rigs.chromium import Chromium
from rigs.composing import Site
from rigs.web import PASSWORD, Page

FOCUSED = "document.activeElement.matches({})"
STATE = "document.querySelector('form[data-finding=\"{}\"] .what').innerText"
SHOWN = "document.querySelector('.viewer-finding.current')?.dataset.finding"


def tab_to(made: browsers.Page, selector: str) -> None:
    """By the key Tab, as often as a person would."""
    for _ in range(60):
        made.ask("Input.dispatchKeyEvent", type="keyDown", key="Tab")
        made.ask("Input.dispatchKeyEvent", type="keyUp", key="Tab")
        if made.value(FOCUSED.format(json.dumps(selector))):
            return
    raise AssertionError(f"no way by Tab to {selector}")


def press(made: browsers.Page, key: str) -> None:
    made.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
    made.ask("Input.dispatchKeyEvent", type="keyUp", key=key)


def enter(made: browsers.Page) -> None:
    made.ask(
        "Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r", windowsVirtualKeyCode=13
    )
    made.ask("Input.dispatchKeyEvent", type="keyUp", key="Enter", windowsVirtualKeyCode=13)


def test_keys_alone_lead_from_the_login_to_the_finding_that_is_seen_and_reject_it(
    page: Page, site: Site, report: Report, tmp_path: Path
) -> None:
    study = f"/study/{report.study.pseudonym}"
    with Chromium(tmp_path) as fresh:
        made = fresh.page()
        made.ask("Emulation.setDeviceMetricsOverride",
                 width=1024, height=600, deviceScaleFactor=1, mobile=False)  # fmt: skip
        made.go(f"{page.address}/login")
        made.until("document.readyState === 'complete' && location.pathname === '/login'")
        tab_to(made, "input[name=name]")
        made.ask("Input.insertText", text=page.account("radiologist"))
        tab_to(made, "input[name=password]")
        made.ask("Input.insertText", text=PASSWORD)
        enter(made)
        made.until("document.readyState === 'complete' && location.pathname === '/'")
        tab_to(made, f"a[href='{study}']")
        enter(made)
        made.until(f"document.readyState === 'complete' && location.pathname === {study!r}")
        tab_to(made, ".viewer-stage")
        made.until("document.querySelector('.viewer').dataset.findings === '2'")
        press(made, "p")  # the last one
        made.until(f"{SHOWN} === '2'")
        press(made, "r")
        made.until(f"{STATE.format(2)}.includes('Rejected')")
        assert [
            (row.verdict, row.finding) for row in site.journal.feedback.of_report(report.report_id)
        ] == [("reject", 2)]
        press(made, "n")
        made.until(f"{SHOWN} === '1'")
        press(made, "a")
        made.until(f"{STATE.format(1)}.includes('Accepted')")
        assert site.journal.feedback.of_report(report.report_id)[-1].finding == 1, (
            "what is judged is what is seen"
        )
