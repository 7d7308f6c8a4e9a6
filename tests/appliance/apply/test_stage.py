"""The stage `apply` says one line where it cannot begin; a whole box runs in tests/fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.apply.stage import main
from appliance.apply.wiring import kind, machine, places_of
from appliance.errors import StateUnusable
from appliance.settings import Settings


def test_without_slots_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable) as refused:
        main(Settings(state=tmp_path))
    assert refused.value.code == "update_no_root"


def test_without_the_trust_of_the_installer_it_says_what_to_do(tmp_path: Path) -> None:
    said = {
        "state": tmp_path / "state",
        "update": {"root": tmp_path / "root", "trusted": tmp_path / "trusted"},
    }
    settings = Settings.model_validate(said)
    with pytest.raises(StateUnusable) as refused:
        main(settings)
    assert refused.value.code == "update_no_trust"
    assert places_of(settings).slot(3) == tmp_path / "root" / "slots" / "3"


def test_which_kind_of_device_this_is() -> None:
    assert kind("x86_64", None) == "x86-64"
    assert kind("aarch64", "NVIDIA Jetson AGX Orin Developer Kit") == "orin"
    assert kind("aarch64", "NVIDIA Jetson AGX Thor Developer Kit") == "thor"
    assert machine().python.count(".") == 2
