"""One stage that serves, for all tests of a folder that change nothing of it but accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rigs import web


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[web.Page]:
    with web.running(tmp_path_factory.mktemp("page") / "state") as serves:
        yield serves
