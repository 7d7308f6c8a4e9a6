"""Feedback in a real browser: by tap, by key, without JavaScript, at 7 inches with gloves."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from appliance.report import Report
from appliance.results.feedback import Feedback
from rigs import chromium as browsers
from rigs.chromium import Chromium
from rigs.composing import Site
from rigs.feedback import act
from rigs.web import Page

TARGET_PX = 64


@pytest.fixture(scope="module")
def browser(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One profile that is let in by the demo's link."""
    with Chromium(tmp_path_factory.mktemp("browser")) as opened:
        tab = opened.page()
        tab.go(page.link())
        tab.until("document.readyState === 'complete' && location.pathname === '/start'")
        tab.click("document.querySelector('main button, main .button')")
        tab.until("location.pathname === '/'")
        tab.close()
        yield opened


@pytest.fixture
def tab(browser: Chromium, page: Page, report: Report) -> Iterator[browsers.Page]:
    """The page of the report, at 7 inches."""
    made = opened(browser, page, report)
    made.value("localStorage.clear()")
    yield made
    made.close()


def opened(browser: Chromium, page: Page, report: Report) -> browsers.Page:
    made = browser.page()
    made.ask(
        "Emulation.setDeviceMetricsOverride",
        width=1024, height=600, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    made.go(f"{page.address}/feedback/{report.report_id}")
    made.until("document.readyState === 'complete' && document.querySelector('.feedback') !== null")
    return made


def said(site: Site, report: Report) -> list[Feedback]:
    return site.journal.feedback.of_report(report.report_id)


def button(finding: int, verdict: str) -> str:
    return f"document.querySelector('form[data-finding=\"{finding}\"] button[value={verdict}]')"


def state_of(finding: int) -> str:
    return f"document.querySelector('form[data-finding=\"{finding}\"] .what').innerText"


def press(tab: browsers.Page, key: str) -> None:
    """A key of the keyboard, as a person presses it."""
    tab.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
    tab.ask("Input.dispatchKeyEvent", type="keyUp", key=key)


def test_accept_reject_and_undo_are_one_tap_each_and_the_page_stays(
    tab: browsers.Page, site: Site, report: Report
) -> None:
    tab.value("window.same = true")
    for verdict, shows in (("accept", "Accepted"), ("reject", "Rejected"), ("undo", "Accepted")):
        tab.click(button(1, verdict))
        tab.until(f"{state_of(1)}.includes({json.dumps(shows)})")
        tab.until("document.querySelector('.told').innerText === 'Saved.'")
    assert tab.value("window.same"), "no other page was loaded"
    assert [row.verdict for row in said(site, report)] == ["accept", "reject", "undo"]
    assert {row.role for row in said(site, report)} == {"radiologist"}, "of the link"


def test_a_r_and_u_judge_the_finding_in_hand_and_then_the_next(
    tab: browsers.Page, site: Site, report: Report
) -> None:
    press(tab, "a")
    tab.until(f"{state_of(1)}.includes('Accepted')")
    tab.value(
        f"""(() => {{ const jump = document.createElement("button");
        jump.dataset.viewerFinding = "2"; jump.dataset.viewerReport = "{report.report_id}";
        document.querySelector("main").append(jump); jump.click(); }})()"""
    )
    press(tab, "r")
    tab.until(f"{state_of(2)}.includes('Rejected')")
    press(tab, "u")
    tab.until(f"{state_of(2)}.includes('Not judged')")
    rows = [(row.verdict, row.finding) for row in said(site, report)]
    assert rows == [("accept", 1), ("reject", 2), ("undo", 2)]


def test_the_keys_can_be_turned_off_and_write_letters_into_a_comment(
    tab: browsers.Page, site: Site, report: Report
) -> None:
    tab.value("document.querySelector('details.remark').open = true")
    tab.value("document.querySelector('textarea').focus()")
    press(tab, "a")
    assert tab.value("document.querySelector('textarea').value") == "a"
    tab.value("document.activeElement.blur()")
    tab.click("document.querySelector('button.keys')")
    tab.until("document.querySelector('button.keys').ariaPressed === 'false'")
    tab.value("document.activeElement.blur()")
    press(tab, "a")
    tab.click(button(2, "reject"))
    tab.until(f"{state_of(2)}.includes('Rejected')")
    assert [row.verdict for row in said(site, report)] == ["reject"]
    assert (
        tab.value("document.querySelector('button.keys').getAttribute('aria-pressed')") == "false"
    )


def test_missed_here_is_a_place_from_the_viewer_and_a_tap_on_a_size(
    tab: browsers.Page, site: Site, report: Report
) -> None:
    x, y, z = report.findings[0].place_lps_mm
    detail = json.dumps({"bubbles": True, "detail": {"lps": [x + 12.04, y, z]}})
    tab.value(
        f"document.querySelector('main').dispatchEvent(new CustomEvent('viewer:place', {detail}))"
    )
    assert not tab.value("document.querySelector('details.place').open"), (
        "a tap alone marks nothing"
    )
    tab.click("document.querySelector('details.place summary')")
    tab.click("document.querySelector('button[name=size_mm][value=\"6\"]')")
    tab.until("document.querySelector('.feedback').innerText.includes('Missed by the device')")
    (row,) = said(site, report)
    assert (row.verdict, row.size_mm, row.score) == ("missed", 6.0, 0.31)
    assert row.center_lps_mm == pytest.approx((x + 12.0, y, z), abs=0.06)
    tab.click("document.querySelector('form.judge:not([data-finding]) button[value=undo]')")
    tab.until("!document.querySelector('.feedback').innerText.includes('Missed by the device')")


def test_missed_here_on_a_radiograph_is_a_pixel_of_the_image_where_its_scale_is_known(
    browser: Chromium, page: Page, site: Site, report: Report
) -> None:
    key = site.journal.reports.series_of(report.report_id)
    assert key is not None
    series = report.series.model_copy(update={"modality": "DX", "slices": 1, "spacing_mm": None})
    flat = report.model_copy(
        update={"report_id": uuid.uuid4(), "series": series, "findings": (), "revision": 2}
    )
    site.journal.commit_report(flat, key, owed=(), series_state="analysed")
    tab = opened(browser, page, flat)
    size = "document.querySelector('button[name=size_mm][value=\"20\"]')"
    for scaled in ("false", "true"):
        tab.value(
            "document.querySelector('main').dispatchEvent(new CustomEvent('viewer:place', {bubbles:"
            f" true, detail: {{lps: null, image: 0, stored: [12.34, 40], scaled: {scaled}}}}}))"
        )
        assert tab.value(f"{size}.disabled") == (scaled == "false")
        assert tab.value("document.querySelector('.no-scale').hidden") == (scaled == "true")
    tab.click("document.querySelector('details.place summary')")
    tab.click(size)
    tab.until("document.querySelector('.feedback').innerText.includes('column 12, row 40')")
    (row,) = said(site, flat)
    assert row.place_px is not None
    assert (row.place_px.column, row.place_px.row, row.size_mm) == (12.3, 40.0, 20.0)
    tab.close()


def test_two_tabs_that_contradict_each_other_both_show_both_rows(
    tab: browsers.Page, browser: Chromium, page: Page, site: Site, report: Report
) -> None:
    other = opened(browser, page, report)
    tab.click(button(1, "accept"))
    tab.until(f"{state_of(1)}.includes('Accepted')")
    other.click(button(1, "reject"))
    other.until(f"{state_of(1)}.includes('Rejected')")
    assert "Readers said different things" in other.text()
    tab.ask("Page.reload")
    tab.until(f"document.querySelector('.feedback') && {state_of(1)}.includes('Rejected')")
    assert tab.value("document.querySelectorAll('.said li').length") == 2
    assert [row.verdict for row in said(site, report)] == ["accept", "reject"]
    other.close()


def test_a_double_tap_is_one_act(tab: browsers.Page, site: Site, report: Report) -> None:
    tab.click(button(1, "accept"), times=2)
    tab.until(f"{state_of(1)}.includes('Accepted')")
    tab.click(button(2, "accept"))
    tab.until(f"{state_of(2)}.includes('Accepted')")
    assert [(row.verdict, row.finding) for row in said(site, report)] == [
        ("accept", 1),
        ("accept", 2),
    ]


def test_without_javascript_the_same_forms_do_it(
    tab: browsers.Page, page: Page, site: Site, report: Report
) -> None:
    tab.ask("Emulation.setScriptExecutionDisabled", value=True)
    tab.ask("Page.reload")
    tab.until("document.querySelector('button.keys')?.hidden")
    tab.click(button(1, "accept"))
    tab.until(f"document.querySelector('.feedback') && {state_of(1)}.includes('Accepted')")
    (row,) = said(site, report)
    assert (row.verdict, row.finding) == ("accept", 1)


def test_every_target_is_large_enough_for_gloves_and_nothing_is_wider_than_7_inches(
    tab: browsers.Page,
) -> None:
    tab.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    small = tab.value(
        """[...document.querySelectorAll('.feedback :is(button, summary, input, select, textarea)')]
        .filter((one) => one.type !== 'hidden').map((one) => [one.outerHTML.slice(0, 80),
          one.getBoundingClientRect()]).filter(([, b]) => b.height < 64 || b.width < 64)
        .map(([what]) => what)"""
    )
    assert small == [], f"under {TARGET_PX} px"
    assert tab.value("document.documentElement.scrollWidth") <= 1024
    tab.go("about:blank")


def test_what_was_not_saved_is_said_on_the_page(
    tab: browsers.Page, site: Site, report: Report
) -> None:
    tab.ask("Network.enable")
    tab.ask(
        "Network.emulateNetworkConditions",
        offline=True, latency=0, downloadThroughput=0, uploadThroughput=0,
    )  # fmt: skip
    tab.click(button(1, "accept"))
    tab.until("document.querySelector('.told').innerText === 'Not saved'")
    assert "Not judged" in tab.value(state_of(1))
    assert said(site, report) == []


def test_on_the_page_of_the_study_it_stays_true_while_others_judge(
    browser: Chromium, page: Page, site: Site, report: Report
) -> None:
    """live.js says that there is news; what somebody types meanwhile stays."""
    tab = browser.page()
    tab.go(f"{page.address}/study/{report.study.pseudonym}")
    section = f"document.getElementById('feedback-{report.report_id}')"
    tab.until(f"document.readyState === 'complete' && {section} !== null")
    site.journal.feedback.say(act(report, "reject", role="technologist", reader="cd34"))
    tab.until(f"{section}.innerText.includes('Rejected')")
    tab.value(f"{section}.querySelector('textarea').value = 'half a senten'")
    site.journal.feedback.say(act(report, "accept", finding=2, reader="cd34"))
    tab.value("document.dispatchEvent(new CustomEvent('scanside:fresh'))")
    assert tab.value(f"{section}.querySelector('textarea').value") == "half a senten"
    tab.click(f"{section}.querySelector('form[data-finding=\"1\"] button[value=accept]')")
    tab.until(f"{section}.innerText.includes('Readers said different things')")
    assert tab.value("location.pathname") == f"/study/{report.study.pseudonym}"
    tab.close()
