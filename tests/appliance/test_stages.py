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
        "update": {"root": "/opt/scanside"},
        "web": {"enabled": True},
        "deliver": [{"name": "p", "host": "h", "called_ae": "A"}],
        "priors": {"query": [{"name": "p", "address": "A@h:104"}]},
    }
    assert of(Settings.model_validate(everything)) == STAGES


def test_who_updates_is_asked_for_by_the_folder_of_slots_and_lives_in_a_folder_of_his_own() -> None:
    with_root = Settings.model_validate({"state": "/s", "update": {"root": "/opt/scanside"}})
    more = [row for row in of(with_root) if row not in of(Settings())]
    assert [row.name for row in more] == ["update", "apply"]
    assert all(row.home(with_root) != with_root.state and not row.in_slots for row in more)
    assert all(row.home(with_root) == with_root.state for row in of(Settings()))


def test_every_stage_has_its_main() -> None:
    assert all(callable(import_module(row.module).main) for row in STAGES)
