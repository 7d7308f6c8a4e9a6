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
    assert "web" not in with_one


def test_the_page_is_asked_for_by_its_settings_alone() -> None:
    with_page = of(Settings.model_validate({"web": {"enabled": True}}))
    assert [row.name for row in with_page if row not in of(Settings())] == ["web"]
    everything = {
        "web": {"enabled": True},
        "deliver": [{"name": "p", "host": "h", "called_ae": "A"}],
    }
    assert of(Settings.model_validate(everything)) == STAGES


def test_every_stage_has_its_main() -> None:
    assert all(callable(import_module(row.module).main) for row in STAGES)
