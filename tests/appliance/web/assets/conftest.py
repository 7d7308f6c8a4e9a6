"""One browser and one served state for all tests of the viewer; a page for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from rigs.chromium import Chromium
from rigs.looked_at import LookedAt, served
from rigs.viewed import Viewed


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LookedAt]:
    made = LookedAt(tmp_path_factory.mktemp("looked at") / "state")
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def open_page(
    state: LookedAt, browser: Chromium
) -> Iterator[Callable[[str], AbstractContextManager[Viewed]]]:
    """Address of a series -> its viewer, in a page of 1024 x 600."""
    with served(state.application()) as base:

        @contextmanager
        def opened(address: str) -> Iterator[Viewed]:
            page = browser.page()
            try:
                yield Viewed(page, base, address)
            finally:
                page.close()

        yield opened
