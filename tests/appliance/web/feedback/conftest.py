"""A report to be judged, alone and on the page of the real stage."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx
import pytest

from appliance.report import Report, Scored, Scores
from appliance.store import kept
from appliance.store.files import DISK
from rigs import oblique, web
from rigs.composing import FOUND, Site
from rigs.reports import make_report, noon
from rigs.web import Page

__all__ = ["make_report", "noon"]

X, Y, Z = FOUND.place_lps_mm
SCORES = Scores(
    threshold=FOUND.threshold,
    candidates=(
        Scored(score=FOUND.score, center_lps_mm=(X, Y, Z)),
        Scored(score=0.31, center_lps_mm=(X + 12, Y, Z)),
    ),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The stage, on a state folder with a journal and no series yet."""
    state = tmp_path_factory.mktemp("feedback") / "state"
    Site(state).journal.close()
    with web.running(state) as running:
        yield running


@pytest.fixture
def site(page: Page) -> Iterator[Site]:
    made = Site(page.settings.state)
    yield made
    made.journal.close()


@pytest.fixture
def report(site: Site) -> Report:
    """Of a fresh series, with two findings, and what was scored for it."""
    images = oblique.series(oblique.POSES["axial"], 6)
    series = f"2.25.{uuid.uuid4().int}"
    for image in images:
        image.SeriesInstanceUID = series
        image.SOPInstanceUID = f"2.25.{uuid.uuid4().int}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    other = FOUND.model_copy(update={"id": 2, "tracking_uid": "2.25.78", "score": 0.6})
    report = site.commit(site.store(images), FOUND, other)
    folder = site.settings.state / kept.FOLDER / str(report.report_id)
    listed = kept.Images.model_validate_json((folder / "images.json").read_bytes())
    scored = listed.model_copy(update={"scores": SCORES})
    DISK.write(folder / "images.json", scored.model_dump_json().encode())
    return report


@pytest.fixture(scope="module")
def reader(page: Page) -> Iterator[httpx.Client]:
    with page.logged_in("radiologist") as browser:
        yield browser
