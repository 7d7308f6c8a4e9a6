"""GET /health and the ledger of times, served by the stage."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import pytest

from appliance.store import updating
from appliance.store.files import DISK
from appliance.store.updating import Updating
from rigs import web
from rigs.peers import HANG_S
from rigs.ward import Exam


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_says_how_the_device_does_in_both_languages(
    bedside: web.Page, day: dict[str, Exam], language: str
) -> None:
    assert day
    with bedside.logged_in(headers={"accept-language": language}) as browser:
        text = browser.get("/health").text
    assert "lung-nodule 1.4.0" in text
    assert "CT_EMERGENCY" in text
    assert ("Serves this page" in text) == (language == "en")
    assert ("提供本页面" in text) == (language == "zh")


def test_the_doctor_is_asked_by_service_alone_and_its_lines_are_shown(bedside: web.Page) -> None:
    with bedside.logged_in("technologist") as browser:
        sent = {"csrf": web.csrf(browser, "/health")}
        assert browser.post("/health/doctor", data=sent).status_code == 403
        assert "Examine the device now" not in browser.get("/health").text
    with bedside.logged_in("service") as browser:
        sent = {"csrf": web.csrf(browser, "/health")}
        assert browser.post("/health/doctor", data=sent).headers["location"] == "/health#doctor"
        end = time.monotonic() + 2 * HANG_S
        while "is being examined" in (text := browser.get("/health").text):
            assert time.monotonic() < end
            time.sleep(0.5)
    assert "Asked at" in text
    for line in ("settings", "journal", "broker", "outbox"):
        assert f'<dt lang="en">{line}</dt>' in text


def test_the_times_are_a_file_for_who_may_have_it(bedside: web.Page, day: dict[str, Exam]) -> None:
    assert day
    with bedside.logged_in("technologist") as browser:
        assert browser.get("/ledger.csv").status_code == 403
    with bedside.logged_in("service") as browser:
        answer = browser.get("/ledger.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert {line["scanner"] for line in lines} == {"CT_EMERGENCY"}
    assert any(
        (line["last_slice_to_first_result_s"], line["waiting_for_more_s"]) == ("1.400", "2.000")
        for line in lines
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_box_that_updates_itself_says_how_that_stands(tmp_path: Path, language: str) -> None:
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    said = Updating(version="0.2.0", slot=2, release="stable/7.json", state="trial", hold=True)
    updating.write(DISK, trusted, said)
    more = f'[update]\nroot = "{tmp_path}/root"\ntrusted = "{trusted}"'
    with (
        web.running(tmp_path / "state", more) as page,
        page.logged_in(headers={"accept-language": language}) as browser,
    ):
        text = browser.get("/health").text
    assert "stable/7.json" in text
    assert "scanside update release" in text
    assert ("On trial" in text) == (language == "en")
    assert ("试运行中" in text) == (language == "zh")
