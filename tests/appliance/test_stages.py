"""The table of stages: which of them the settings ask for."""

from __future__ import annotations

from importlib import import_module

from appliance.settings import Settings
from appliance.stages import STAGES, of


def test_the_stage_for_archives_is_asked_for_by_archives_alone() -> None:
    without = [row.name for row in of(Settings())]
    archive = {"name": "pacs", "host": "h", "called_ae": "A"}
    with_one = [row.name for row in of(Settings.model_validate({"deliver": [archive]}))]
    assert [name for name in with_one if name not in without] == ["deliver"]
    assert with_one == [row.name for row in STAGES]


def test_every_stage_has_its_main() -> None:
    assert all(callable(import_module(row.module).main) for row in STAGES)
