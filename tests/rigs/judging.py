"""Somebody who judges findings on the page of the real stage: fixtures for a conftest to import."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx
import pytest

from appliance.report import Report, SeriesKey
from rigs import oblique, web
from rigs.composing import FOUND, Site
from rigs.web import Page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The stage, on a state folder with a journal and no series yet."""
    state = tmp_path_factory.mktemp("judged") / "state"
    Site(state).journal.close()
    with web.running(state) as running:
        yield running


@pytest.fixture
def site(page: Page) -> Iterator[Site]:
    made = Site(page.settings.state)
    yield made
    made.journal.close()


@pytest.fixture(scope="module")
def reader(page: Page) -> Iterator[httpx.Client]:
    with page.logged_in("radiologist") as browser:
        yield browser


def fresh(site: Site) -> tuple[SeriesKey, Report]:
    """A series of a study that nobody knows yet, and its report with two findings."""
    images = oblique.series(oblique.POSES["axial"], 6)
    study, series = (f"2.25.{uuid.uuid4().int}" for _ in range(2))
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = f"2.25.{uuid.uuid4().int}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    other = FOUND.model_copy(update={"id": 2, "tracking_uid": "2.25.78", "score": 0.6})
    key = site.store(images)
    return key, site.commit(key, FOUND, other)
