"""A quick host, and the folder of runs in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (pip install -e '.[train]')")
pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
from rigs.made_chest import made_chest
from training.implant.pairs.pair import Chest


@pytest.fixture(scope="session")
def host() -> Chest:
    return made_chest()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCANSIDE_TRAIN", str(tmp_path))
    return tmp_path
