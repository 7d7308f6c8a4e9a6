"""GET /metrics, served by the stage."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rigs import web
from rigs.ward import Exam

TOKEN = {"authorization": "Bearer a-token-of-the-ward"}


def test_who_shows_the_token_gets_figures_and_no_study(
    page: web.Page, day: dict[str, Exam]
) -> None:
    with page.browser() as browser:
        answer = browser.get("/metrics", headers=TOKEN)
    assert answer.status_code == 200
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["scanside_stage_up", "running", "web"] == 1.0
    assert samples["scanside_owed", "dead", "mqtt"] == 0.0
    assert samples["scanside_owed", "mqtt", "waiting"] > 0
    assert samples["scanside_time_to_finding_seconds", "0.5", "CT_EMERGENCY", "final"] > 3.0
    assert not [exam for exam in day.values() if exam.study in answer.text]
    assert "1.2." not in answer.text.replace('version="', "")


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic a-token-of-the-ward"}],
)
def test_without_the_token_there_are_none(page: web.Page, headers: dict[str, str]) -> None:
    with page.logged_in("service") as browser:
        answer = browser.get("/metrics", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_where_the_settings_name_no_token_there_is_no_such_page(tmp_path: Path) -> None:
    with web.running(tmp_path / "state") as serving, serving.browser() as browser:
        assert browser.get("/metrics", headers=TOKEN).status_code == 404
