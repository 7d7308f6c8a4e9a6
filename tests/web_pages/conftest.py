"""One stage with something to show, one browser, and axe-core, for all tests of pages."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs import pages, web
from rigs.chromium import Chromium

FETCH = Path(__file__).resolve().parents[2] / ".ci" / "axe"


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core; skips where it was not fetched."""
    done = subprocess.run([FETCH, "--where"], capture_output=True, text=True, check=True)
    found = Path(done.stdout.strip()) / "axe.min.js"
    if not found.is_file():
        pytest.skip(f"axe-core is not at {found}: .ci/axe fetches it")
    return found.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[web.Page]:
    state = tmp_path_factory.mktemp("pages") / "state"
    pages.state_with_everything(state)
    with web.running(state) as serves:
        yield serves


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started
