"""A study that was compared, on the page of the real stage."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx
import pytest

from appliance.report import Report
from rigs import beside, oblique, web
from rigs.composing import FOUND, Site
from rigs.web import Page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The stage, on a state folder with a journal and no series yet."""
    state = tmp_path_factory.mktemp("compared") / "state"
    Site(state).journal.close()
    with web.running(state) as running:
        yield running


@pytest.fixture
def site(page: Page) -> Iterator[Site]:
    made = Site(page.settings.state)
    yield made
    made.journal.close()


@pytest.fixture
def waiting(site: Site) -> Report:
    """A fresh report with two findings that is still to be compared."""
    images = oblique.series(oblique.POSES["axial"], 6)
    study, series = (f"2.25.{uuid.uuid4().int}" for _ in range(2))
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = f"2.25.{uuid.uuid4().int}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    other = FOUND.model_copy(update={"id": 2, "tracking_uid": "2.25.78", "score": 0.6})
    key = site.store(images)
    report = site.commit(key, FOUND, other)
    site.journal.shown.name(key)
    beside.wait(site.journal, key, report)
    return report


@pytest.fixture(scope="module")
def reader(page: Page) -> Iterator[httpx.Client]:
    with page.logged_in("radiologist") as browser:
        yield browser
