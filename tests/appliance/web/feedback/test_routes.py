"""The pages of feedback, served by the real stage: forms alone, good and bad."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from typing import Any

import httpx
import pytest

from appliance.report import Report
from appliance.results.feedback import Feedback, PlacePx, counting
from appliance.results.mqtt import Envelope
from appliance.store import bell
from appliance.store.journal import JOURNAL_NAME, damage
from rigs import web
from rigs.composing import FOUND, Site
from rigs.web import Page

CENTER = FOUND.center_lps_mm
assert CENTER


def said(site: Site, report: Report) -> list[Feedback]:
    return site.journal.feedback.of_report(report.report_id)


def give(reader: httpx.Client, about: Report, verdict: str, **more: object) -> httpx.Response:
    """One form, as the page of the report has it."""
    values = {
        "csrf": web.csrf(reader, f"/feedback/{about.report_id}"),
        "report": about.report_id,
        "page": "report",
        "uid": str(uuid.uuid4()),
        "verdict": verdict,
        **more,
    }
    return reader.post("/feedback", data={name: str(value) for name, value in values.items()})


def test_a_verdict_is_a_row_with_its_score_and_the_page_is_shown_again(
    site: Site, report: Report, reader: httpx.Client
) -> None:
    answer = give(reader, report, "accept", finding=1)
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"/feedback/{report.report_id}",
    )
    (row,) = said(site, report)
    assert (row.verdict, row.finding, row.role) == ("accept", 1, "radiologist")
    assert (row.score, row.bundle) == (FOUND.score, report.bundle.digest if report.bundle else "")
    assert row.scores
    assert (row.scores.threshold, row.scores.findings) == (FOUND.threshold, 2)
    assert row.scores.below == (0.31,)
    assert row.series == site.naming.series(site.journal.reports.series_of(report.report_id))  # type: ignore[arg-type]
    text = reader.get(f"/feedback/{report.report_id}").text
    assert "1 of 2 findings judged" in text
    assert "Accepted" in text


def test_from_the_page_of_a_study_it_leads_back_there(report: Report, reader: httpx.Client) -> None:
    answer = give(reader, report, "reject", finding=1, page="study")
    assert answer.headers["location"] == (
        f"/study/{report.study.pseudonym}#feedback-{report.report_id}"
    )


def test_a_missed_place_has_the_score_of_the_candidate_that_it_names(
    site: Site, report: Report, reader: httpx.Client
) -> None:
    x, y, z = CENTER
    give(reader, report, "missed", x=x + 13, y=y, z=z, size_mm=6)
    (row,) = said(site, report)
    assert (row.verdict, row.size_mm, row.score) == ("missed", 6.0, 0.31)
    assert "Missed by the device" in reader.get(f"/feedback/{report.report_id}").text


def test_two_readers_who_contradict_each_other_are_both_shown(
    page: Page, site: Site, report: Report, reader: httpx.Client
) -> None:
    give(reader, report, "accept", finding=1)
    with page.logged_in("technologist") as other:
        give(other, report, "reject", finding=1)
        text = other.get(f"/feedback/{report.report_id}").text
    assert "Readers said different things" in text
    assert re.search(r"radiologist:\s*<span class=\"ok\"", text)
    assert re.search(r"you:\s*<span class=\"stop\"", text)
    rows = said(site, report)
    assert len({row.reader for row in rows}) == 2
    assert counting(rows).findings[1].verdict == "reject"


def test_an_undo_takes_back_what_counts_and_is_harmless_when_sent_again(
    site: Site, report: Report, reader: httpx.Client
) -> None:
    give(reader, report, "accept", finding=1)
    (row,) = said(site, report)
    for _ in range(2):
        assert give(reader, report, "undo", undoes=row.uid).status_code == 303
    assert [one.verdict for one in said(site, report)] == ["accept", "undo"]
    assert said(site, report)[1].finding == 1
    assert "Not judged" in reader.get(f"/feedback/{report.report_id}").text


def test_a_form_that_is_sent_twice_is_one_row(
    site: Site, report: Report, reader: httpx.Client
) -> None:
    uid = uuid.uuid4()
    for _ in range(2):
        assert give(reader, report, "accept", finding=1, uid=uid).status_code == 303
    assert [row.uid for row in said(site, report)] == [uid]


def test_a_comment_is_shown_escaped_and_neither_sent_nor_exported(
    site: Site, report: Report, reader: httpx.Client
) -> None:
    word = f"<b>seen</b> {uuid.uuid4()}"
    give(reader, report, "comment", text=f"{word}\u202e\nsecond line", finding=1, uid="")
    text = reader.get(f"/feedback/{report.report_id}").text
    assert "&lt;b&gt;seen&lt;/b&gt;" in text
    assert "\u202e" not in text
    assert said(site, report) == []
    assert word not in reader.get("/export/feedback.json").text
    bodies = [row.body or b"" for row in site.journal.owed.waiting("mqtt", 10_000)]
    assert not any(word.encode() in body for body in bodies)


def test_the_message_goes_through_the_outbox_without_the_reader(
    site: Site, report: Report, reader: httpx.Client
) -> None:
    run = site.settings.state / "run"
    run.mkdir(exist_ok=True)
    with bell.hearing(site.settings.state, "publish") as rung:
        give(reader, report, "accept", finding=1)
        assert bell.take(rung), "who publishes is woken at once"
    (row,) = said(site, report)
    owed = {one.key: one for one in site.journal.owed.waiting("mqtt", 10_000)}
    envelope = Envelope.model_validate_json(owed[str(row.uid)].body or b"")
    payload = json.loads(envelope.payload)
    assert (payload["verdict"], payload["role"]) == ("accept", "radiologist")
    assert row.reader not in envelope.payload


@pytest.mark.parametrize(
    "bad",
    [
        {"verdict": "delete"},
        {"verdict": "accept", "finding": 7},
        {"verdict": "accept", "finding": "../1"},
        {"verdict": "accept", "finding": 1, "uid": "1"},
        {"verdict": "missed", "x": "nan", "y": 0, "z": 0, "size_mm": 5},
        {"verdict": "missed", "x": "1e999", "y": 0, "z": 0, "size_mm": 5},
        {"verdict": "missed", "x": 9000, "y": 0, "z": 0, "size_mm": 5},
        {"verdict": "missed", "x": CENTER[0], "y": CENTER[1], "z": CENTER[2], "size_mm": 5000},
        {"verdict": "missed", "x": CENTER[0], "y": CENTER[1], "z": CENTER[2]},
        {"verdict": "undo", "undoes": "x"},
        {"verdict": "undo"},
        {"verdict": "comment", "text": "x" * 2001},
        {"verdict": "comment", "text": "x", "finding": 9},
    ],
)
def test_a_form_that_says_nonsense_is_refused_and_leaves_no_row(
    site: Site, report: Report, reader: httpx.Client, bad: dict[str, Any]
) -> None:
    more = {**bad}
    answer = give(reader, report, more.pop("verdict"), **more)
    assert answer.status_code == 400
    assert "does not understand" in answer.text
    assert said(site, report) == []
    assert site.journal.feedback.comments(report.report_id) == []


@pytest.mark.parametrize("path", ["x", "..%2f..%2fetc", "%00", str(uuid.UUID(int=5)), "2.25.77"])
def test_a_report_that_is_not_there_is_a_page_that_says_so(
    reader: httpx.Client, report: Report, path: str
) -> None:
    answer = reader.get(f"/feedback/{path}")
    assert answer.status_code == 404
    assert give(reader, report, "accept", finding=1, report=path).status_code == 404


def test_the_page_of_a_series_that_was_deleted_meanwhile_says_so(
    site: Site, report: Report, reader: httpx.Client
) -> None:
    give(reader, report, "accept", finding=1)
    token = web.csrf(reader, f"/feedback/{report.report_id}")
    site.journal.owed.ack("mqtt", [row.key for row in site.journal.owed.waiting("mqtt", 10_000)])
    key = site.journal.reports.series_of(report.report_id)
    assert key
    row = site.journal.series.get(key)
    assert row
    assert site.journal.forget(row)
    values = {"csrf": token, "report": str(report.report_id), "verdict": "reject", "finding": "1"}
    answer = reader.post("/feedback", data={**values, "uid": str(uuid.uuid4())})
    assert answer.status_code == 404
    assert "deleted" in answer.text
    assert len(said(site, report)) == 1, "what was said before stays"


def test_without_a_login_a_csrf_value_or_the_role_nothing_is_written(
    page: Page, site: Site, report: Report, reader: httpx.Client
) -> None:
    with page.browser() as nobody:
        assert nobody.post("/feedback", data={"report": str(report.report_id)}).status_code == 401
        assert nobody.get("/operating-point", headers={"accept": "text/html"}).status_code == 303
        assert nobody.get("/export/feedback.json").status_code == 401
    assert give(reader, report, "accept", finding=1, csrf="0" * 64).status_code == 403
    assert said(site, report) == []


def test_where_the_journal_takes_nothing_the_page_says_that_it_was_not_saved(
    page: Page, site: Site, report: Report, reader: httpx.Client
) -> None:
    """Somebody suspects that it is damaged, and nobody has looked yet."""
    token = web.csrf(reader, f"/feedback/{report.report_id}")
    journal = page.settings.state / JOURNAL_NAME
    damage.suspect(journal, sqlite3.DatabaseError("database disk image is malformed"))
    try:
        values = {"csrf": token, "report": str(report.report_id), "verdict": "accept"}
        answer = reader.post("/feedback", data={**values, "finding": "1", "uid": str(uuid.uuid4())})
    finally:
        damage.clear(journal)
    assert answer.status_code == 503
    assert "Not saved" in answer.text
    assert "press again" in answer.text
    assert said(site, report) == []


def test_the_operating_point_shows_the_figures_and_what_is_not_in_them(
    report: Report, reader: httpx.Client
) -> None:
    give(reader, report, "accept", finding=1)
    give(reader, report, "reject", finding=2)
    answer = reader.get("/operating-point")
    assert answer.status_code == 200
    assert "the true sensitivity is lower" in answer.text
    assert "lung-nodule 1.0.0" in answer.text
    assert "<polyline" in answer.text
    exported = reader.get("/export/feedback.json")
    assert "attachment" in exported.headers["content-disposition"]
    found = json.loads(exported.text)
    assert found["schema"] == "scanside.feedback/1"
    assert found["operating"][0]["scans"] >= 1
    assert str(report.report_id) in {row["report_id"] for row in found["feedback"]}


@pytest.fixture
def with_a_mass(site: Site, report: Report) -> Report:
    """A report whose second finding is of a network with another threshold."""
    mass = report.findings[1].model_copy(
        update={"kind": "mass", "threshold": 0.2, "diameter_mm": 41.0}
    )
    key = site.journal.reports.series_of(report.report_id)
    assert key is not None
    findings = (report.findings[0], mass)
    made = report.model_copy(update={"findings": findings, "edition": report.edition + 1})
    site.journal.commit_report(made, key, owed=(), series_state="analysed")
    return made


def test_masses_have_a_row_of_their_own_and_words_why_they_are_on_no_curve(
    with_a_mass: Report, reader: httpx.Client
) -> None:
    assert "Masses" not in reader.get("/operating-point").text
    give(reader, with_a_mass, "accept", finding=1)
    give(reader, with_a_mass, "reject", finding=2)
    text = reader.get("/operating-point").text
    assert re.search(r'<tr class="apart">\s*<th[^>]*>Masses</th>\s*<td class="figure">0</td>', text)
    assert "0 accepted and 1 rejected in" in text
    assert "They are on no curve, because" in text
    found = json.loads(reader.get("/export/feedback.json").text)["operating"][0]
    assert (found["off_curve"], found["off_curve_rejected"]) == (0, 1)


RADIOGRAPH = {"image": 0, "column": 12.34, "row": 40, "size_mm": 20}


@pytest.fixture
def radiograph(site: Site, report: Report) -> Report:
    """A report of one DX image, of which the whole was scored."""
    key = site.journal.reports.series_of(report.report_id)
    assert key is not None
    series = report.series.model_copy(update={"modality": "DX", "slices": 1, "spacing_mm": None})
    made = report.model_copy(
        update={
            "report_id": uuid.uuid4(),
            "series": series,
            "findings": (),
            "revision": report.revision + 1,
        }
    )
    site.journal.commit_report(made, key, owed=(), series_state="analysed")
    return made


def test_a_place_on_a_radiograph_is_a_pixel_of_the_image_as_it_was_sent(
    site: Site, radiograph: Report, reader: httpx.Client
) -> None:
    text = reader.get(f"/feedback/{radiograph.report_id}").text
    assert 'data-placed="image"' in text
    assert "Size at the detector" in text
    assert give(reader, radiograph, "missed", **RADIOGRAPH).status_code == 303
    (act,) = said(site, radiograph)
    assert act.place_px == PlacePx(image=0, column=12.3, row=40.0)
    assert (act.center_lps_mm, act.size_mm) == (None, 20.0)
    assert "image 1, column 12, row 40" in reader.get(f"/feedback/{radiograph.report_id}").text
    told = Envelope.model_validate_json(
        next(r.body for r in site.journal.owed.waiting("mqtt", 1000) if r.key == str(act.uid))
    )
    assert json.loads(told.payload)["place_px"] == {"image": 0, "column": 12.3, "row": 40.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": 1},
        {"image": -1},
        {"column": "nan"},
        {"column": 70000},
        {"row": "-1"},
        {"row": ""},
        {"size_mm": "inf"},
        {"size_mm": ""},
    ],
)
def test_a_place_that_is_on_no_radiograph_is_refused(
    site: Site, radiograph: Report, reader: httpx.Client, wrong: dict[str, object]
) -> None:
    assert give(reader, radiograph, "missed", **(RADIOGRAPH | wrong)).status_code == 400
    place = {"x": 1, "y": 2, "z": 3, "size_mm": 4}
    assert give(reader, radiograph, "missed", **place).status_code == 400
    assert said(site, radiograph) == []


def test_a_volume_has_no_place_in_pixels(site: Site, report: Report, reader: httpx.Client) -> None:
    assert give(reader, report, "missed", **RADIOGRAPH).status_code == 400
    assert said(site, report) == []


def test_the_page_speaks_chinese(report: Report, reader: httpx.Client) -> None:
    chinese = {"accept-language": "zh-CN,zh;q=0.9"}
    text = reader.get(f"/feedback/{report.report_id}", headers=chinese).text
    assert "接受" in text
    assert "Accept<" not in text
    assert "工作点" in reader.get("/operating-point", headers=chinese).text
