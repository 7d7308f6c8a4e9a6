"""A day of a ward, and the page that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs import ward, web
from rigs.ward import Exam, Ward


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ward") / "state"


@pytest.fixture(scope="module")
def day(state: Path) -> dict[str, Exam]:
    """A study of each status, with names."""
    with Ward(state) as at_work:
        return ward.a_day(at_work, names=True)


@pytest.fixture(scope="module")
def page(state: Path, day: dict[str, Exam]) -> Iterator[web.Page]:
    """The stage, serving that day; names are for who may see them."""
    assert day
    token = state.with_name("token")
    token.write_text("a-token-of-the-ward\n")
    with web.running(state, names=True, metrics_token_file=str(token)) as serving:
        yield serving
