"""A water phantom on the page: its verdict on the study, its trend under health."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.report import BundleRef
from appliance.store import qa
from appliance.watching.qa import QaCode, QaRecord, WaterFigures
from appliance.watching.scanner import Scanner
from rigs import web
from rigs.ward import Exam

FIGURES = WaterFigures(
    slices=20,
    measured=12,
    water_hu=9.1,
    edges_hu=(0.0, 0.0, 0.0, 0.0),
    noise_hu=6.2,
    diameter_mm=200.0,
    out_of_round_mm=0.0,
    off_centre_mm=1.0,
    bubble_mm=0.0,
    response_50_per_mm=0.38,
)
SAID = {
    "en": ("WATER PHANTOM: LOOK", "water is off", "Run the scanner", "water 9.1 HU, noise 6.2 HU"),
    "zh": ("水模：请查看", "水的 CT 值偏离", "空气校准", "水 9.1 HU，噪声 6.2 HU"),
}


@pytest.mark.parametrize("language", SAID)
def test_a_phantom_that_failed_is_said_with_what_to_do_and_stands_in_the_trend(
    bedside: web.Page, day: dict[str, Exam], state: Path, language: str
) -> None:
    exam = day["aside"]
    record = QaRecord(
        report_id=exam.reports[-1].report_id,
        study=exam.study,
        at=datetime.now(timezone.utc),
        scanner=Scanner(model="Box <b>"),
        bundle=BundleRef(name="water-qa", version="1.0.0", digest="b" * 64),
        input_digest="c" * 64,
        verdict="failed",
        codes=(QaCode.WATER_HU,),
        figures=FIGURES,
    )
    banner, what, remedy, figures = SAID[language]
    with bedside.logged_in(headers={"accept-language": language}) as browser:
        before = browser.get(f"/study/{exam.study}").text
        assert banner not in before or language == "zh"
        qa.keep(state, record)
        text = browser.get(f"/study/{exam.study}").text
        health = browser.get("/health").text
    for said in (banner, what, remedy):
        assert said in text, said
    assert figures in health
    assert "water_hu" in health
    assert "Box &lt;b&gt;" in health
