"""Machine facts of this machine, of a Jetson, and of one that says nothing."""

from __future__ import annotations

from pathlib import Path

from appliance.host import facts


def a_jetson(root: Path) -> Path:
    for name, text in {
        "proc/uptime": "1234.56 4000.00\n",
        "proc/loadavg": "0.42 0.36 0.30 1/234 5678\n",
        "proc/meminfo": "MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable:    4000000 kB\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        "sys/class/dmi/id/product_name": "something else\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine_says_something(tmp_path: Path) -> None:
    seen = facts.read(tmp_path)
    assert seen.uptime_s is not None
    assert seen.uptime_s > 0
    assert seen.memory_available_mb is not None
    assert seen.memory_available_mb > 10
    assert seen.disk_free_mb is not None
    assert seen.cores >= 1


def test_a_jetson_names_its_board_and_its_available_memory(tmp_path: Path) -> None:
    seen = facts.read(tmp_path, a_jetson(tmp_path / "root"))
    assert seen.model == "NVIDIA Jetson Orin Nano"
    assert seen.uptime_s == 1234.56
    assert seen.load == 0.42
    assert seen.memory_available_mb == 4096.0


def test_what_is_missing_or_damaged_is_none(tmp_path: Path) -> None:
    root = tmp_path / "root"
    seen = facts.read(tmp_path, root)
    assert (seen.uptime_s, seen.load, seen.memory_available_mb, seen.model) == (None,) * 4
    a_jetson(root)
    (root / "proc/uptime").write_bytes(b"\xff\xfe")
    (root / "proc/loadavg").write_text("")
    (root / "proc/meminfo").write_text("MemAvailable: lots\n")
    seen = facts.read(tmp_path, root)
    assert (seen.uptime_s, seen.load, seen.memory_available_mb) == (None,) * 3


def test_free_space_of_a_folder_that_is_not_made_yet_is_its_parent_s(tmp_path: Path) -> None:
    assert facts.disk_free_mb(tmp_path / "a/b/c") is not None


def test_the_processor_is_named_where_there_is_no_board(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert facts.model(tmp_path) == "Some CPU @ 2 GHz"


def test_the_hottest_zone_counts_and_one_that_is_off_does_not(tmp_path: Path) -> None:
    for zone, said in {"0": "47500", "1": "61250", "2": "", "3": "-40000", "4": "hot"}.items():
        path = tmp_path / f"sys/class/thermal/thermal_zone{zone}/temp"
        path.parent.mkdir(parents=True)
        path.write_text(said)
    assert facts.temperature_c(tmp_path) == 61.25
    assert facts.temperature_c(tmp_path / "elsewhere") is None
