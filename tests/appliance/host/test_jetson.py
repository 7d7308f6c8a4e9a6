"""The items of jetson/README.md, on machines drawn up in a folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.host import jetson
from appliance.host.jetson import Machine, items
from appliance.settings import Host

MODES = """
< PARAM TYPE=FILE NAME=CPU_ONLINE >
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=1 >
"""


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture
def orin(tmp_path: Path) -> Machine:
    """An Orin Nano that was set up as the recipe says, in mode 25W."""
    put(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081\n")
    put(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    put(tmp_path, "etc/nvpmodel.conf", MODES)
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0001\n")
    put(tmp_path, "dev/nvmap", "")
    versions = {"tensorrt": "10.3.0", "pycuda": "2025.1", "onnx": "1.19.0"}
    return Machine(tmp_path, versions.__contains__, versions.get, isolated=False)


def failed(machine: Machine, wanted: Host | None = None) -> dict[str, str]:
    return {i.name: f"{i.text} -> {i.remedy}" for i in items(wanted or Host(), machine) if not i.ok}


def test_a_jetson_set_up_by_the_recipe_has_nothing_to_do(orin: Machine) -> None:
    found = {item.name: item.text for item in items(Host(power_mode="25W"), orin)}
    assert failed(orin, Host(power_mode="25W")) == {}
    assert list(found) == ["jetpack", "tensorrt", "pycuda", "onnx", "groups", "power mode"]
    assert "36.4.3" in found["jetpack"]
    assert "10.3.0" in found["tensorrt"]
    assert "25W (this board knows 15W, 25W, MAXN_SUPER)" in found["power mode"]


def test_another_machine_is_told_in_one_line_and_does_not_fail(tmp_path: Path) -> None:
    (item,) = items(Host(power_mode="25W"), Machine(tmp_path))
    assert item.ok
    assert "no Jetson" in item.text


def test_a_mode_is_wanted_by_name_and_set_by_the_boards_number(orin: Machine) -> None:
    assert "sudo nvpmodel -m 2" in failed(orin, Host(power_mode="MAXN_SUPER"))["power mode"]
    assert "choose one" in failed(orin, Host(power_mode="60W"))["power mode"]
    put(orin.root, "var/lib/nvpmodel/status", "pmode:0007\n")
    assert jetson.power_mode(orin.root) == "7"  # not in the table: its number
    (orin.root / "var/lib/nvpmodel/status").unlink()
    assert jetson.power_mode(orin.root) is None
    assert "power mode" in failed(orin, Host(power_mode="25W"))
    assert failed(orin) == {}  # nothing wanted, nothing wrong


def test_each_missing_item_is_named_with_what_to_type(orin: Machine) -> None:
    bare = replace(orin, finds=lambda _: False)
    assert "apt-get install tensorrt" in failed(bare)["tensorrt"]
    assert "--no-binary pycuda" in failed(bare)["pycuda"]
    assert "pip install 'onnx>=1.16'" in failed(bare)["onnx"]
    alone = replace(bare, isolated=True)
    assert "--system-site-packages" in failed(alone)["tensorrt"]
    closed = replace(orin, may_open=lambda _: False)
    assert "usermod -aG video,render" in failed(closed)["groups"]
    (orin.root / "dev/nvmap").unlink()
    assert "no device file" in failed(orin)["groups"]
    put(orin.root, "etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 1\n")
    assert "JetPack 6.2 or 7.2" in failed(orin)["jetpack"]


def test_a_virtual_environment_says_whether_it_sees_the_systems_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    put(tmp_path, "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    assert Machine().isolated
    put(tmp_path, "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = true\n")
    assert not Machine().isolated
