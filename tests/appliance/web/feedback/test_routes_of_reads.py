"""That a radiograph was read to the end, on the page, and what is then known of certainty."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from contextlib import closing

import httpx
import pytest

from appliance.report import ConformalBounds, Report, Scored, Scores
from appliance.results.feedback import ReportScores
from appliance.store import kept
from appliance.store.files import DISK
from appliance.store.journal import JOURNAL_NAME
from rigs import web
from rigs.composing import Site
from rigs.web import Page

BOUNDS = ConformalBounds(alpha=0.1, with_from=0.6, without_to=0.4, n_with=389, n_without=135)


def give(reader: httpx.Client, about: Report, verdict: str, **more: object) -> httpx.Response:
    values = {
        "csrf": web.csrf(reader, f"/feedback/{about.report_id}"),
        "report": about.report_id,
        "page": "report",
        "uid": str(uuid.uuid4()),
        "verdict": verdict,
        **more,
    }
    return reader.post("/feedback", data={name: str(value) for name, value in values.items()})


@pytest.fixture
def radiograph(site: Site, report: Report) -> Report:
    """A report of one DX image, scored under bounds, with a finding."""
    key = site.journal.reports.series_of(report.report_id)
    assert key is not None
    series = report.series.model_copy(update={"modality": "DX", "slices": 1, "spacing_mm": None})
    finding = report.findings[0].model_copy(
        update={
            "kind": "pneumonia",
            "center_lps_mm": None,
            "box_lps_mm": None,
            "threshold": 0.5,
            "score": 0.9,
            "heat_map": "heat-map-1",
            "certainty": "sure",
        }
    )
    made = report.model_copy(
        update={
            "report_id": uuid.uuid4(),
            "series": series,
            "findings": (finding,),
            "revision": report.revision + 1,
        }
    )
    site.journal.commit_report(made, key, owed=(), series_state="analysed")
    scores = Scores(threshold=0.5, candidates=(Scored(score=0.9),), certainty=BOUNDS)
    folder = site.settings.state / kept.FOLDER / str(made.report_id)
    folder.mkdir()
    listed = kept.Images(images=("2.25.1",), scores=scores)
    DISK.write(folder / "images.json", listed.model_dump_json().encode())
    return made


def test_a_radiograph_is_read_to_the_end_once_every_finding_has_a_verdict(
    site: Site, radiograph: Report, reader: httpx.Client
) -> None:
    address = f"/feedback/{radiograph.report_id}"
    before = reader.get(address).text
    assert "Not read to the end" in before
    assert re.search(r'value="read"[^>]* disabled', before)
    give(reader, radiograph, "accept", finding=1)
    assert not re.search(r'value="read"[^>]* disabled', reader.get(address).text)
    assert give(reader, radiograph, "read").status_code == 303
    read = site.journal.reads.counting(radiograph.report_id)
    assert read is not None
    assert (read.done, read.role, read.bundle) == (
        True,
        "radiologist",
        radiograph.bundle.digest if radiograph.bundle else "",
    )
    assert read.scores == ReportScores(threshold=0.5, findings=1, certainty=BOUNDS)
    assert re.search(r"All images read</span>\s*<small>you", reader.get(address).text)


def test_that_it_was_read_can_be_taken_back_and_no_act_goes_out(
    site: Site, radiograph: Report, reader: httpx.Client
) -> None:
    for verdict in ("read", "unread"):
        assert give(reader, radiograph, verdict).status_code == 303
    read = site.journal.reads.counting(radiograph.report_id)
    assert read is not None
    assert not read.done
    assert "Not read to the end" in reader.get(f"/feedback/{radiograph.report_id}").text
    assert str(read.uid) not in {one.key for one in site.journal.owed.waiting("mqtt", 10_000)}


def test_a_form_of_a_read_that_says_nonsense_leaves_no_row(
    site: Site, report: Report, radiograph: Report, reader: httpx.Client
) -> None:
    assert give(reader, report, "read").status_code == 400, "a volume has no such button"
    assert 'value="read"' not in reader.get(f"/feedback/{report.report_id}").text
    assert give(reader, radiograph, "read", uid="1").status_code == 400
    assert site.journal.reads.counting(report.report_id) is None
    assert site.journal.reads.counting(radiograph.report_id) is None


def test_until_50_of_each_class_were_read_the_page_says_that_nothing_is_known(
    page: Page, site: Site, radiograph: Report, reader: httpx.Client
) -> None:
    give(reader, radiograph, "accept", finding=1)
    give(reader, radiograph, "read")
    text = reader.get("/operating-point").text
    assert "fitted on images of another hospital" in text
    assert "Not known yet: of each class images must be read to the end, 50" in text
    chinese = reader.get("/operating-point", headers={"accept-language": "zh-CN"}).text
    assert "尚不可知：每一类至少须完整阅读 50 幅图像" in chinese
    digest = "c" * 64
    with closing(sqlite3.connect(site.settings.state / JOURNAL_NAME)) as db:
        for n in range(100):
            score = (n + 1) / 101
            scores = ReportScores(
                threshold=0.5, findings=0, below=(score / 2,), certainty=BOUNDS
            ).model_dump_json()
            report_id = str(uuid.uuid4())
            db.execute(
                "INSERT INTO reads (uid, at, report_id, bundle, done, role, reader, scores) "
                "VALUES (?, 1, ?, ?, 1, 'radiologist', 'ab', ?)",
                (str(uuid.uuid4()), report_id, digest, scores),
            )
            if n % 2:
                db.execute(
                    "INSERT INTO feedback (uid, at, study, report_id, bundle, verdict, "
                    "center_lps_mm, size_mm, role, reader, score) "
                    "VALUES (?, 1, ?, ?, ?, 'missed', ?, 20, 'radiologist', 'ab', ?)",
                    (
                        str(uuid.uuid4()), "0" * 32, report_id, digest,
                        '{"image": 0, "column": 1, "row": 1}', score / 2,
                    ),
                )  # fmt: skip
        db.commit()
    text = reader.get("/operating-point").text
    assert "The images read here would give the bounds" in text
    found = json.loads(reader.get("/export/coverage.json").text)
    assert found["schema"] == "scanside.coverage/1"
    (one,) = [b for b in found["bundles"] if b["bundle"] == digest]
    assert (one["with_finding"]["n"], one["without_finding"]["n"]) == (50, 50)
    assert one["with_finding"]["within"] == 0
    assert one["without_finding"]["within"] == 40
    assert one["proposed"]["with_from"] < BOUNDS.with_from
    with page.browser() as nobody:
        assert nobody.get("/export/coverage.json").status_code == 401
