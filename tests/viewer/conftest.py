"""One archive, one web server and one browser for all tests; a study and a page for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from rigs.chromium import Chromium
from rigs.ohif import Site, Viewer
from rigs.orthanc import Orthanc
from rigs.reports import make_report

__all__ = ["make_report"]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="session")
def look(
    archive: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], AbstractContextManager[Viewer]]]:
    """A study of the archive -> OHIF that shows it."""
    folder = tmp_path_factory.mktemp("chromium")
    with Site(archive) as site, Chromium(folder) as browser:
        yield lambda study_uid: Viewer(browser, site, study_uid)
